//! The command line: `ringkeeper [serve] [-Dname=value…] [zoo.cfg]`, the positional form of Apache's
//! server, `check` and `accept-loss`.

use super::exit::{Exit, complain};
use super::loss::accept_loss;
use super::preflight::{self, Status};
use super::run::run;
use crate::config::{self, Ensemble, Reading, Resolved, Surroundings};
use crate::rt::{probe, signals};
use crate::types::Zxid;
use clap::Parser;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  ringkeeper                                  a server to try things with: 127.0.0.1:2181, data in
                                              the user's state directory
  ringkeeper /etc/zookeeper/conf/zoo.cfg      as Apache's server would start with this file
  ringkeeper -DsnapCount=10000 zoo.cfg        with a property; the file overrides it
  ringkeeper 2181 /var/lib/ringkeeper         port and data directory; tickTime and maxClientCnxns may follow
  ringkeeper check zoo.cfg                    looks at the machine and the file, starts nothing
  ringkeeper --strict zoo.cfg                 does not start if the file has a key that is not known
  ringkeeper accept-loss zoo.cfg              shows what a store that is refused has lost; gives it up
                                              only with the --last-zxid that it names

Exit codes are listed in docs/exit-codes.md.";

/// A coordination server that every Apache ZooKeeper client can use unchanged.
#[derive(Parser)]
#[command(name = "ringkeeper", version = VERSION, after_help = EXAMPLES)]
struct Cli {
    /// A property of zoo.cfg or of the Java server, with or without `zookeeper.`; anywhere.
    #[arg(short = 'D', value_name = "name=value", value_parser = property)]
    properties: Vec<(String, String)>,
    /// A key that is not known is an error, and no warning; `check` is strict always.
    #[arg(long)]
    strict: bool,
    /// With `accept-loss`: the zxid at which the store is to end.
    #[arg(long, value_name = "zxid", value_parser = zxid)]
    last_zxid: Option<Zxid>,
    /// `serve`, `check` or `accept-loss`, then a configuration file, or port and data directory.
    #[arg(value_name = "zoo.cfg")]
    rest: Vec<String>,
}

const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("RK_COMMIT"), ")");

fn property(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').unwrap_or((text, "true"));
    match key.is_empty() {
        true => Err("a property has a name".into()),
        false => Ok((key.to_owned(), value.to_owned())),
    }
}

fn zxid(text: &str) -> Result<Zxid, String> {
    let digits = text.strip_prefix("0x").ok_or("a zxid begins with 0x")?;
    let number = i64::from_str_radix(digits, 16).map_err(|e| e.to_string())?;
    Ok(Zxid(number))
}

/// Those properties of a command line that a command for the same store repeats, each with a blank behind it. What
/// is printed is kept in logs and histories, so a value is repeated only where its key is known to hold no secret.
fn repeated(properties: &[(String, String)]) -> String {
    let repeated = properties
        .iter()
        .filter(|(name, _)| config::may_be_shown(name));
    repeated
        .map(|(name, value)| format!("-D{name}={value} "))
        .collect()
}

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    Serve,
    Check,
    AcceptLoss,
}

/// `-Dname=value` words of SERVER_JVMFLAGS and JVMFLAGS, in the order in which Apache's script gives them to its
/// JVM, so that the last one counts; other flags are for a JVM.
fn inherited_properties() -> Vec<(String, String)> {
    let flags = ["SERVER_JVMFLAGS", "JVMFLAGS"].map(|name| std::env::var(name).unwrap_or_default());
    flags
        .iter()
        .flat_map(|flags| flags.split_whitespace())
        .filter_map(|flag| property(flag.strip_prefix("-D")?).ok())
        .collect()
}

/// Where the embedded default keeps its data: never a temporary place.
fn state_directory() -> Option<PathBuf> {
    let absolute = |name| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))
}

/// Reads the configuration that the arguments name.
fn read(rest: &[String], properties: &[(String, String)]) -> Result<Reading, String> {
    match rest {
        [] => {
            let unset = "neither XDG_STATE_HOME nor HOME is set: name a configuration file";
            let state = state_directory().ok_or(unset)?;
            Ok(config::embedded(&state, properties))
        }
        [file] => {
            let unreadable = |e| format!("{file} can't be read ({e}): name a configuration file");
            let text = std::fs::read_to_string(file).map_err(unreadable)?;
            Ok(config::from_file(&text, properties))
        }
        positions => Ok(config::from_positions(positions, properties)),
    }
}

/// A sentence about the configuration, behind the name of the file if there is one.
fn in_file(rest: &[String], sentence: impl std::fmt::Display) -> String {
    match rest {
        [file] => format!("{file}: {sentence}"),
        _ => sentence.to_string(),
    }
}

/// Runs the command line to its end.
pub fn main() -> Exit {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            let _ = e.print();
            return if e.use_stderr() {
                Exit::Config
            } else {
                Exit::Ok
            };
        }
    };
    let repeated = repeated(&cli.properties);
    let mut properties = inherited_properties();
    properties.extend(cli.properties);
    let (verb, rest) = match cli.rest.split_first() {
        Some((word, rest)) if word == "check" => (Verb::Check, rest),
        Some((word, rest)) if word == "serve" => (Verb::Serve, rest),
        Some((word, rest)) if word == "accept-loss" => (Verb::AcceptLoss, rest),
        _ => (Verb::Serve, &cli.rest[..]),
    };
    if cli.last_zxid.is_some() && verb != Verb::AcceptLoss {
        complain(&"--last-zxid goes with `ringkeeper accept-loss`");
        return Exit::Config;
    }
    let reading = match read(rest, &properties) {
        Ok(reading) => reading,
        Err(sentence) => {
            complain(&sentence);
            return Exit::Config;
        }
    };
    if verb == Verb::Check {
        return print_checks(&reading, rest);
    }
    if cli.strict && !reading.unknown().is_empty() {
        let unknown = reading.unknown().join("; ");
        complain(&in_file(
            rest,
            format_args!("{unknown}: correct or remove it, or start without --strict"),
        ));
        return Exit::Config;
    }
    if !reading.seats().is_empty() && verb == Verb::Serve {
        let around = Around::of(&reading);
        return match reading.member(&around.lend()) {
            Ok((resolved, ensemble)) => serve(resolved, Some(ensemble), false),
            Err(e) => {
                complain(&in_file(rest, &e));
                Exit::from(&e)
            }
        };
    }
    match reading.accepted() {
        Ok(resolved) if verb == Verb::AcceptLoss => {
            let arguments = repeated + &rest.join(" ");
            accept_loss(&resolved.config, cli.last_zxid, &arguments)
        }
        Ok(resolved) => serve(resolved, None, rest.is_empty()),
        Err(e) => {
            complain(&in_file(rest, &e));
            Exit::from(&e)
        }
    }
}

/// What stands in files beside the configuration's.
struct Around {
    my_id: Option<String>,
    dynamic: Option<String>,
}

impl Around {
    fn of(reading: &Reading) -> Around {
        let data_dir = reading.outcome().map(|resolved| &resolved.config.data_dir);
        let my_id = data_dir.map(|data_dir| std::fs::read_to_string(data_dir.join("myid")));
        let dynamic = reading.dynamic_file().map(std::fs::read_to_string);
        Around {
            my_id: my_id.ok().and_then(Result::ok),
            dynamic: dynamic.and_then(Result::ok),
        }
    }

    fn lend(&self) -> Surroundings<'_> {
        Surroundings {
            my_id: self.my_id.as_deref(),
            dynamic: self.dynamic.as_deref(),
        }
    }
}

fn print_row(status: &str, name: &str, text: impl std::fmt::Display) {
    println!("{status:5} {name:16} {text}");
}

/// Prints what is wrong with the configuration, every promise of security that can't be kept and every key that is not
/// known included, with the ensemble if it asks for one, and with the machine; the exit code is the first failure's.
fn print_checks(reading: &Reading, rest: &[String]) -> Exit {
    let mut first = Exit::Ok;
    for refusal in reading.refusals() {
        print_row("FAIL", "security", in_file(rest, refusal));
        first = Exit::Insecure;
    }
    if !reading.seats().is_empty() {
        first = first.or(print_ensemble(reading, rest));
    }
    for unknown in reading.unknown() {
        print_row("FAIL", "configuration", in_file(rest, unknown));
        first = first.or(Exit::Config);
    }
    // Where a member's clients connect, its own line may say.
    let around = Around::of(reading);
    let is_member = !reading.seats().is_empty();
    let member = is_member.then(|| reading.clone().member(&around.lend()).ok());
    let member = member.flatten().map(|(resolved, _)| resolved);
    match reading.outcome() {
        Ok(resolved) => print_machine(
            member.as_ref().unwrap_or(resolved),
            reading.unknown(),
            first,
        ),
        Err(e) => {
            print_row("FAIL", "configuration", in_file(rest, e));
            first.or(e.into())
        }
    }
}

/// Prints what the ensemble is.
fn print_ensemble(reading: &Reading, rest: &[String]) -> Exit {
    if reading.outcome().is_err() {
        return Exit::Ok;
    }
    let around = Around::of(reading);
    match reading.ensemble(&around.lend()) {
        Ok(ensemble) => {
            for warning in &ensemble.warnings {
                print_row("warn", "ensemble", in_file(rest, warning));
            }
            print_row("ok", "ensemble", in_file(rest, ensemble.describe()));
            Exit::Ok
        }
        Err(error) => {
            print_row("FAIL", "ensemble", in_file(rest, &error));
            Exit::from(&error)
        }
    }
}

/// `said`: warnings that were printed before.
fn print_machine(resolved: &Resolved, said: &[String], mut first: Exit) -> Exit {
    let warnings = resolved.warnings.iter();
    for warning in warnings.filter(|warning| !said.contains(warning)) {
        print_row("warn", "configuration", warning);
    }
    let (rows, ready) = preflight::look(&resolved.config, true);
    for row in &rows {
        let status = match row.status {
            Status::Good => "ok",
            Status::Warn => "warn",
            Status::Fail(_) => "FAIL",
        };
        print_row(status, row.name, &row.text);
        if let Status::Fail(exit) = row.status {
            first = first.or(exit);
        }
    }
    if let Some(ready) = ready {
        match probe::durability(ready.log.path()) {
            Ok(found) => print_row("ok", "durability", found),
            Err(e) => print_row(
                "warn",
                "durability",
                format_args!("could not be measured: {e}"),
            ),
        }
    }
    first
}

fn serve(resolved: Resolved, ensemble: Option<Ensemble>, embedded: bool) -> Exit {
    signals::on_sigbus(Exit::MappedFile.code());
    let (rows, ready) = preflight::look(&resolved.config, false);
    let Some(ready) = ready else {
        let failed = rows.iter().find_map(|row| match row.status {
            Status::Fail(exit) => Some((exit, row.text.as_str())),
            _ => None,
        });
        let (exit, sentence) =
            failed.unwrap_or((Exit::Unexpected, "the start-up checks did not finish"));
        complain(&sentence);
        return exit;
    };
    if embedded {
        let address = resolved.config.client_address;
        complain(&format_args!(
            "No configuration: serving on {address}, data in {}.\n\
             Try:  echo srvr | nc {} {}\n\
             or connect any ZooKeeper client; `ringkeeper --help` says more.",
            ready.data.path().display(),
            address.ip(),
            address.port(),
        ));
    }
    let outcome = run(resolved, ensemble, ready, |fatal| {
        complain(fatal);
        std::process::exit(Exit::from(fatal).code())
    });
    match outcome {
        Ok(()) => Exit::Ok,
        Err(e) => {
            complain(&e);
            Exit::from(&e)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_is_shown_repeats_what_places_the_store_and_no_secret() {
        let given = [
            ("dataDir", "/d"),
            (
                "zookeeper.DigestAuthenticationProvider.superDigest",
                "super:secret",
            ),
            ("DigestAuthenticationProvider.superDigest", "super:secret"),
            (
                "zookeeper.digestAuthenticationProvider.SuperDigest",
                "super:secret",
            ),
            ("zookeeper.preAllocSize", "128"),
            ("ssl.keyStore.password", "secret"),
            ("javax.net.ssl.trustStorePassword", "secret"),
            ("nobody.knows", "secret"),
        ];
        let given = given.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(
            repeated(&given),
            "-DdataDir=/d -Dzookeeper.preAllocSize=128 "
        );
    }
}
