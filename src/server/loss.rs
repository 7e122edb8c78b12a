//! `ringkeeper accept-loss`: says what a store that is refused has lost, and gives it up if the operator names
//! the transaction at which the store then ends. What is done to the files: `snapshot::loss`.

use super::exit::{self, Exit, complain};
use super::preflight::{self, Directories, Status};
use crate::config::Config;
use crate::log::LogConfig;
use crate::rt::storage::FsStorage;
use crate::rt::{clock, probe};
use crate::snapshot::loss::{self, Found, Loss};
use crate::types::Zxid;

/// Looks at the store; `last_zxid` accepts the loss. `arguments` are those that name the configuration, for the
/// command that is shown.
pub(super) fn accept_loss(config: &Config, last_zxid: Option<Zxid>, arguments: &str) -> Exit {
    let Directories { locks, data, log } = match preflight::take_directories(config) {
        Ok(Some(directories)) => directories,
        Ok(None) => return nothing(&config.data_dir.join(preflight::NATIVE).display()),
        Err(row) => {
            complain(&row.text);
            return match row.status {
                Status::Fail(exit) => exit,
                _ => Exit::Unexpected,
            };
        }
    };
    let is_owned = |directory: &FsStorage| probe::is_owned(directory.path()).unwrap_or(false);
    if last_zxid.is_some() && !(is_owned(&data) && is_owned(&log)) {
        complain(&format_args!(
            "{} and {} do not both belong to the user that runs this command, and the server could not \
             open what it makes there: run it as the user that runs the server; nothing was changed",
            data.path().display(),
            log.path().display()
        ));
        return Exit::NotWritable;
    }
    let found = match loss::look(&data, &log) {
        Ok(found) => found,
        Err(refusal) => {
            complain(&format_args!(
                "nothing of this can be accepted: {refusal} (dataDir: {}, dataLogDir: {})",
                data.path().display(),
                log.path().display()
            ));
            return exit::of_snap(&refusal);
        }
    };
    let outcome = match found {
        Found::Nothing => nothing(&data.path().display()),
        Found::Whole(zxid) => whole(zxid, last_zxid.is_some(), &data, &log),
        Found::Lost(lost) => decide(config, *lost, last_zxid, arguments, &log),
    };
    drop(locks);
    outcome
}

fn nothing(place: &dyn std::fmt::Display) -> Exit {
    println!("{place} holds no store: there is nothing to accept");
    Exit::Ok
}

/// Nothing is lost, perhaps because this command has given it up before: the operator who runs it again is
/// told so only when that is durable.
fn whole(zxid: Zxid, is_to_accept: bool, data: &FsStorage, log: &FsStorage) -> Exit {
    if is_to_accept && let Err(error) = loss::settle(data, log) {
        complain(&format_args!(
            "{error}; the store is whole up to {zxid}, and that may not be durable yet: run the same command again"
        ));
        return exit::of_snap(&error);
    }
    println!("the store is whole up to {zxid}: there is nothing to accept");
    Exit::Ok
}

/// Shows the loss, and accepts it if it was named.
fn decide(
    config: &Config,
    lost: Loss<FsStorage>,
    last_zxid: Option<Zxid>,
    arguments: &str,
    log: &FsStorage,
) -> Exit {
    let kept = lost.kept;
    if let Some(named) = last_zxid.filter(|named| *named != kept) {
        complain(&format_args!(
            "--last-zxid names {named}, and the store would end at {kept}; nothing was changed"
        ));
        return Exit::OtherLoss;
    }
    for line in report(&lost, &log.path().display()) {
        println!("{line}");
    }
    if last_zxid.is_none() {
        println!(
            "Nothing was changed. Who has no backup accepts exactly this loss with\n  \
             ringkeeper accept-loss --last-zxid {kept} {arguments}"
        );
        return Exit::LossShown;
    }
    let behind = lost.behind;
    let config = LogConfig {
        segment_bytes: config.segment_bytes,
    };
    match lost.accept(config, Box::new(clock::random), clock::wall()) {
        Ok(()) => {
            println!("Accepted. The store ends at {kept}; the next start goes on behind {behind}.");
            Exit::Ok
        }
        Err(error) => {
            complain(&format_args!(
                "{error}; the loss is not accepted yet: run the same command again"
            ));
            exit::of_snap(&error)
        }
    }
}

/// What an operator should know before the decision, a line each.
fn report(lost: &Loss<FsStorage>, log: &dyn std::fmt::Display) -> Vec<String> {
    let mut lines = Vec::new();
    let mut say = |name: &str, text: String| lines.push(format!("{name:11} {text}"));
    say("refused", format!("{}", lost.refusal));
    if !lost.has_log {
        say(
            "WARNING",
            format!(
                "THERE IS NO LOG IN {log}. If that is a disk that is not mounted, or the wrong directory, \
                 stop here: nothing is lost yet. Accepting gives up EVERYTHING behind the snapshot"
            ),
        );
    }
    let from = lost
        .snapshot
        .map_or("no snapshot".to_owned(), |zxid| format!("snapshot {zxid}"));
    say(
        "stays",
        format!(
            "everything up to {}: {from}, and {} transactions of the log",
            lost.kept, lost.replayed
        ),
    );
    say("lost", lost_text(lost));
    let aside = match lost.aside.as_slice() {
        [] => "nothing".to_owned(),
        names => format!(
            "{}: renamed to lost.<n>.<name> in their directories",
            names.join(", ")
        ),
    };
    say("set aside", format!("{aside}; nothing is deleted"));
    say(
        "afterwards",
        format!(
            "the server goes on behind {}, so that no zxid comes twice; clients reconnect, and see the \
             older state",
            lost.behind
        ),
    );
    lines
}

/// Which transactions go.
fn lost_text(lost: &Loss<FsStorage>) -> String {
    let unseen = match lost.has_witness {
        true => {
            "what was acknowledged after the witness was last written (2 s under writes) can't be known"
        }
        false => "how far the log went can't be known, because there is no witness",
    };
    match lost.known {
        Some(known) if known.epoch() == lost.kept.epoch() => format!(
            "{} to {known}, {} transactions; {unseen}",
            lost.kept.next(),
            known.0 - lost.kept.0
        ),
        Some(known) => format!("{} to {known}; {unseen}", lost.kept.next()),
        None => format!("nothing that any file shows; {unseen}"),
    }
}
