//! `rk inspect` over the stores of the fixtures, whole and damaged.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::path::{Path, PathBuf};
use std::process::Command;

/// What `rk inspect` printed, what it complained of, and its exit code.
struct Inspected {
    lines: Vec<String>,
    complaints: String,
    code: Option<i32>,
}

fn inspect(path: &Path, json: bool) -> Inspected {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rk"));
    command.arg("inspect").arg(path);
    if json {
        command.arg("--json");
    }
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Inspected {
        lines: text(output.stdout).lines().map(str::to_owned).collect(),
        complaints: text(output.stderr),
        code: output.status.code(),
    }
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/store-v1")
}

/// A copy of the fixture in a directory of its own.
struct Copy(PathBuf);

impl Copy {
    fn new(name: &str) -> Copy {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        for entry in std::fs::read_dir(fixture()).unwrap() {
            let from = entry.unwrap().path();
            std::fs::copy(&from, path.join(from.file_name().unwrap())).unwrap();
        }
        Copy(path)
    }

    fn flip(&self, file: &str, at: usize) {
        let path = self.0.join(file);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[at] ^= 1;
        std::fs::write(path, bytes).unwrap();
    }
}

const LOG: &str = "log.0000000000000000";
const SNAP: &str = "snap.0000000000000017";

/// Where the transactions of the log begin.
fn transactions(lines: &[String]) -> Vec<usize> {
    let of_log = lines.iter().filter(|line| line.starts_with(LOG));
    let words = of_log.map(|line| line.split(' ').collect::<Vec<_>>());
    let transactions = words.filter(|words| words[2] == "txn");
    transactions
        .map(|words| words[1].parse().unwrap())
        .collect()
}

#[test]
fn a_whole_store_is_shown_and_ends_with_success() {
    let seen = inspect(&fixture(), false);
    assert_eq!((seen.code, seen.complaints.as_str()), (Some(0), ""));
    let creates = seen.lines.iter().filter(|line| line.contains("op=create("));
    let with_path = creates.filter(|line| line.contains(" path=/") && line.contains(" data="));
    assert!(with_path.count() > 3, "{:#?}", seen.lines);
    assert!(transactions(&seen.lines).len() > 10);
    let kinds = ["segment", "seal", "snapshot", "chunk", "root", "end"];
    for kind in kinds {
        let has = |line: &String| line.split(' ').nth(2) == Some(kind);
        assert!(seen.lines.iter().any(has), "{kind}");
    }
}

#[test]
fn json_has_an_object_for_each_line_with_the_same_places() {
    let (text, json) = (inspect(&fixture(), false), inspect(&fixture(), true));
    assert_eq!(text.lines.len(), json.lines.len());
    for (text, json) in text.lines.iter().zip(&json.lines) {
        let words: Vec<&str> = text.split(' ').collect();
        let head = format!(
            r#"{{"file":"{}","offset":{},"what":"{}","#,
            words[0], words[1], words[2]
        );
        assert!(json.starts_with(&head) && json.ends_with('}'), "{json}");
    }
}

#[test]
fn a_damaged_record_is_named_by_its_byte_and_the_others_are_shown() {
    let copy = Copy::new("damaged-record");
    let whole = transactions(&inspect(&copy.0, false).lines);
    copy.flip(LOG, whole[3] + 70);
    let seen = inspect(&copy.0, false);
    assert_eq!(seen.code, Some(1));
    let place = format!("{LOG} is damaged at byte {}", whole[3]);
    assert!(seen.complaints.contains(&place), "{}", seen.complaints);
    let mut left = whole.clone();
    left.remove(3);
    assert_eq!(transactions(&seen.lines), left);
}

#[test]
fn a_torn_end_is_no_damage() {
    let copy = Copy::new("torn");
    let whole = transactions(&inspect(&copy.0, false).lines);
    // Nothing says that the last one was durable: the seal behind it is not in this file.
    copy.flip(LOG, whole[whole.len() - 1] + 70);
    let seen = inspect(&copy.0.join(LOG), false);
    assert_eq!((seen.code, seen.complaints.as_str()), (Some(0), ""));
    assert_eq!(transactions(&seen.lines), whole[..whole.len() - 1]);
}

#[test]
fn a_log_that_lost_what_was_durable_is_named_by_where_it_ends() {
    let copy = Copy::new("lost");
    let whole = transactions(&inspect(&copy.0, false).lines);
    let last = *whole.last().unwrap();
    let before = whole[whole.len() - 2];
    // The seal says that the transaction before it was durable.
    copy.flip(LOG, before + 70);
    copy.flip(LOG, last + 70);
    let seen = inspect(&copy.0.join(LOG), false);
    assert_eq!(seen.code, Some(1));
    let place = format!("{LOG} is damaged at byte {before}: no record, though it was durable");
    assert!(seen.complaints.contains(&place), "{}", seen.complaints);
}

#[test]
fn a_damaged_segment_header_costs_the_check_and_nothing_else() {
    let copy = Copy::new("damaged-header");
    let whole = transactions(&inspect(&copy.0, false).lines);
    copy.flip(LOG, 20);
    let seen = inspect(&copy.0, false);
    assert_eq!(seen.code, Some(1));
    let place = format!("{LOG} is damaged at byte 0");
    assert!(seen.complaints.contains(&place), "{}", seen.complaints);
    assert_eq!(transactions(&seen.lines), whole);
    let unchecked = |line: &&String| line.contains(" checked=false");
    assert!(seen.lines.iter().filter(unchecked).count() >= whole.len());
}

#[test]
fn a_damaged_snapshot_is_named_by_its_byte() {
    let copy = Copy::new("damaged-snapshot");
    copy.flip(SNAP, 200);
    let seen = inspect(&copy.0.join(SNAP), false);
    assert_eq!(seen.code, Some(1));
    let place = format!("{SNAP} is damaged at byte 32: a damaged chunk");
    assert!(seen.complaints.contains(&place), "{}", seen.complaints);
    let root = |line: &String| line.split(' ').nth(2) == Some("root");
    assert!(seen.lines.iter().any(root));
}

#[test]
fn nothing_is_changed() {
    let copy = Copy::new("unchanged");
    copy.flip(LOG, 5000);
    let content = || {
        let read = |file: &str| std::fs::read(copy.0.join(file)).unwrap();
        let count = std::fs::read_dir(&copy.0).unwrap().count();
        (read(LOG), read(SNAP), count)
    };
    let before = content();
    inspect(&copy.0, true);
    assert!(content() == before);
}

#[test]
fn what_is_no_file_of_a_store_is_refused() {
    let seen = inspect(&fixture().join("../record/v1-create.bin"), false);
    assert_eq!(seen.code, Some(2));
    assert!(
        seen.complaints.contains("neither a segment"),
        "{}",
        seen.complaints
    );
    let seen = inspect(Path::new("/nowhere/at/all"), false);
    assert_eq!(seen.code, Some(2));
}
