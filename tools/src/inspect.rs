//! `rk inspect`: what stands in the files of a store: segments, snapshots, the witness. Reads, and never
//! writes; also what the server refuses to start with.

mod directory;
mod lines;

use directory::Directory;
use lines::{Field, Line, text};
use ringkeeper::log::inspect::{self, FileKind, Seen};
use ringkeeper::log::record::{Kind, Record};
use ringkeeper::log::segment;
use ringkeeper::log::storage::Storage;
use ringkeeper::log::{MemberRecord, Standing};
use ringkeeper::txn::record;
use ringkeeper::types::{Position, Zxid};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The directory below `dataDir` and `dataLogDir` that holds a store.
const NATIVE: &str = "ringkeeper-1";
/// Something can't be read at all.
const FAILED: u8 = 2;

/// Arguments of `rk inspect`.
#[derive(clap::Args)]
pub struct Args {
    /// A segment, a snapshot or a witness, or a directory of them.
    path: PathBuf,
    /// One JSON object for each line.
    #[arg(long)]
    json: bool,
}

/// Prints what is there. 0: all of it is whole; 1: something is damaged; 2: something can't be read.
pub fn run(args: &Args) -> ExitCode {
    let mut look = Look {
        out: Box::new(io::BufWriter::new(io::stdout())),
        json: args.json,
        damage: Vec::new(),
        holes: Vec::new(),
        durable_to: Position(0),
        log: None,
        witnessed: None,
    };
    let looked = look.at(&args.path).and_then(|()| look.out.flush());
    match looked {
        Ok(()) if look.damage.is_empty() => ExitCode::SUCCESS,
        Ok(()) => {
            for damage in &look.damage {
                eprintln!("{damage}");
            }
            ExitCode::FAILURE
        }
        // Whoever reads has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error}", args.path.display());
            ExitCode::from(FAILED)
        }
    }
}

/// What was seen so far.
struct Look {
    out: Box<dyn Write>,
    json: bool,
    /// A sentence for each place.
    damage: Vec<String>,
    /// Places in the log without a record: whether that is damage is known at the end.
    holes: Vec<Hole>,
    /// What the records say was durable.
    durable_to: Position,
    /// Where the log ends.
    log: Option<LogEnd>,
    /// How far the log is durable, as the witness says.
    witnessed: Option<Position>,
}

struct Hole {
    file: String,
    offset: u64,
    position: Position,
}

/// The end of the last segment that was read.
struct LogEnd {
    file: String,
    offset: u64,
    position: Position,
    zxid: Zxid,
}

impl Look {
    fn at(&mut self, path: &Path) -> io::Result<()> {
        let native = path.join(NATIVE);
        let path = if native.is_dir() { &native } else { path };
        if path.is_dir() {
            self.directory(&Directory::new(path))?;
        } else {
            let name = path.file_name().map(|name| name.to_string_lossy());
            let name = name.ok_or(io::ErrorKind::NotFound)?;
            let folder = Directory::new(path.parent().unwrap_or(Path::new(".")));
            match inspect::kind(&folder, &name)? {
                Some(kind) => self.file(&folder, &name, kind, None)?,
                None => {
                    return Err(io::Error::other(
                        "neither a segment, a snapshot nor a witness",
                    ));
                }
            }
        }
        self.judge()
    }

    /// The witness first, then the log in its order, then the snapshots in theirs.
    fn directory(&mut self, folder: &Directory) -> io::Result<()> {
        let mut files: BTreeMap<(u8, String), FileKind> = BTreeMap::new();
        for name in folder.list()? {
            let Some(kind) = inspect::kind(folder, &name)? else {
                continue;
            };
            let rank = match kind {
                FileKind::Witness => 0,
                FileKind::Segment if segment::parse_name(&name).is_some() => 1,
                FileKind::Segment => continue,
                FileKind::Snapshot => 2,
            };
            files.insert((rank, name), kind);
        }
        let names: Vec<&String> = files.keys().map(|(_, name)| name).collect();
        for (nth, ((_, name), kind)) in files.iter().enumerate() {
            let next = names
                .get(nth + 1)
                .and_then(|next| segment::parse_name(next));
            self.file(folder, name, *kind, next)?;
        }
        Ok(())
    }

    /// `next`: where the next segment begins; what stands behind was torn off when that one was begun.
    fn file(
        &mut self,
        folder: &Directory,
        name: &str,
        kind: FileKind,
        next: Option<Position>,
    ) -> io::Result<()> {
        let mut failed = Ok(());
        let mut base = segment::parse_name(name).unwrap_or_default();
        let mut sink = |offset: u64, seen: Seen<'_>| {
            if let Seen::Segment(header) = &seen {
                base = header.base;
            }
            let position = Position((base.0 + offset).saturating_sub(segment::HEADER_BLOCK as u64));
            let line = self.see(name, offset, position, kind, &seen);
            if failed.is_ok() {
                failed = line.print(self.json, &mut self.out);
            }
        };
        match kind {
            FileKind::Segment => inspect::segment(folder, name, next, &mut sink)?,
            FileKind::Snapshot => inspect::snapshot(folder, name, &mut sink)?,
            FileKind::Witness => inspect::witness(folder, name, &mut sink)?,
        }
        failed?;
        match (next, &self.log) {
            (Some(next), Some(end)) if end.file == name && end.position < next => {
                let what = format!(
                    "{name} ends at byte {}, and the next segment begins at {next}",
                    end.offset
                );
                self.damage.push(what);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Notes what matters for the log as a whole.
    fn see(
        &mut self,
        file: &str,
        offset: u64,
        position: Position,
        kind: FileKind,
        seen: &Seen<'_>,
    ) -> Line {
        let mut damaged = |what: &str| {
            let place = format!("{file} is damaged at byte {offset}: {what}");
            self.damage.push(place);
        };
        match seen {
            Seen::Segment(_) => {
                self.log = Some(LogEnd {
                    file: file.to_owned(),
                    offset,
                    position,
                    zxid: self.log.as_ref().map_or(Zxid::ZERO, |log| log.zxid),
                });
            }
            Seen::Record { record, .. } => {
                self.durable_to = self.durable_to.max(record.durable_to);
                self.log = Some(LogEnd {
                    file: file.to_owned(),
                    offset: offset + record.end().0 - record.position.0,
                    position: record.end(),
                    zxid: record.zxid,
                });
                if record.kind.is_transaction()
                    && let Err(error) = record::access(record.payload)
                {
                    damaged(&format!(
                        "a record that passes its checksum and is none: {error}"
                    ));
                }
            }
            Seen::Witness(witness) => {
                self.witnessed = self.witnessed.max(Some(witness.durable.position));
            }
            Seen::Damage { what, .. } if kind == FileKind::Segment && offset > 0 => {
                let _ = what;
                self.holes.push(Hole {
                    file: file.to_owned(),
                    offset,
                    position,
                });
            }
            Seen::Damage { what, .. } => damaged(what),
            Seen::Unreadable { error, .. } => damaged(&format!("it can't be read: {error}")),
            Seen::Newer { format } => damaged(&format!("format {format}, which is newer")),
            Seen::Snapshot(_)
            | Seen::Chunk { .. }
            | Seen::Root { .. }
            | Seen::Member(_)
            | Seen::Zeroes { .. }
            | Seen::Rest { .. } => {}
        }
        line(file, offset, seen)
    }

    /// A place without a record is damage if what stood there was durable, and torn if not.
    fn judge(&mut self) -> io::Result<()> {
        let durable_to = self.durable_to.max(self.witnessed.unwrap_or_default());
        for hole in &self.holes {
            if hole.position < durable_to {
                self.damage.push(format!(
                    "{} is damaged at byte {}: no record, though it was durable up to {durable_to}",
                    hole.file, hole.offset
                ));
            }
        }
        let Some(end) = &self.log else {
            return Ok(());
        };
        if end.position < durable_to {
            self.damage.push(format!(
                "{} ends at byte {}, position {}, behind {}: the log was durable up to {durable_to}",
                end.file, end.offset, end.position, end.zxid
            ));
        }
        let summary = Line {
            file: end.file.clone(),
            offset: end.offset,
            what: "end",
            fields: vec![
                ("position", Field::Number(end.position.0)),
                ("zxid", text(end.zxid)),
                ("durable_to", Field::Number(durable_to.0)),
            ],
        };
        summary.print(self.json, &mut self.out)
    }
}

fn line(file: &str, offset: u64, seen: &Seen<'_>) -> Line {
    let number = |n: u64| Field::Number(n);
    let (what, fields) = match seen {
        Seen::Segment(header) => (
            "segment",
            vec![
                (
                    "format",
                    number(if header.store.is_some() {
                        segment::FORMAT.into()
                    } else {
                        1
                    }),
                ),
                ("base", number(header.base.0)),
                ("bytes", number(header.bytes)),
                (
                    "identity",
                    text(format_args!("{:#034x}", header.identity.0)),
                ),
                ("store", store(header.store)),
            ],
        ),
        Seen::Record { record, is_checked } => {
            (kind_name(record.kind), record_fields(record, *is_checked))
        }
        Seen::Newer { format } => ("newer", vec![("format", number((*format).into()))]),
        Seen::Snapshot(header) => (
            "snapshot",
            vec![
                ("format", number(header.format.into())),
                ("zxid", text(header.zxid)),
                ("store", store(header.store)),
            ],
        ),
        Seen::Chunk { bytes } => ("chunk", vec![("bytes", number(*bytes as u64))]),
        Seen::Root { bytes, root } => {
            let root: String = root.iter().map(|byte| format!("{byte:02x}")).collect();
            (
                "root",
                vec![("bytes", number(*bytes)), ("blake3", text(root))],
            )
        }
        Seen::Witness(witness) => (
            "witness",
            vec![
                ("sequence", number(witness.sequence)),
                ("store", store(Some(witness.store))),
                ("newest", number(witness.newest.0)),
                ("durable", number(witness.durable.position.0)),
                ("zxid", text(witness.durable.zxid)),
                ("native", number(witness.native.0)),
                ("closed", Field::Flag(witness.is_closed)),
            ],
        ),
        Seen::Member(record) => (
            "member",
            vec![
                ("sid", text(record.sid())),
                ("accepted", number(record.accepted().0.into())),
                ("current", number(record.current().0.into())),
                ("standing", text(standing_name(record.standing()))),
                ("ids", text(record.ids_reserved())),
                ("configuration", text(configuration(record))),
            ],
        ),
        Seen::Zeroes { to } => ("zeroes", vec![("to", number(*to))]),
        Seen::Rest { to } => ("rest", vec![("to", number(*to))]),
        Seen::Damage { to, what } => ("damage", vec![("to", number(*to)), ("why", text(what))]),
        Seen::Unreadable { to, error } => (
            "unreadable",
            vec![("to", number(*to)), ("why", text(error))],
        ),
    };
    Line {
        file: file.to_owned(),
        offset,
        what,
        fields,
    }
}

fn standing_name(standing: Standing) -> &'static str {
    match standing {
        Standing::Whole => "whole",
        Standing::Fresh => "fresh",
        Standing::Maimed => "maimed",
    }
}

fn configuration(record: &MemberRecord) -> String {
    let text = String::from_utf8_lossy(record.configuration());
    text.escape_debug().to_string()
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Txn => "txn",
        Kind::Seal => "seal",
        Kind::Fence => "fence",
        Kind::Filler => "filler",
        Kind::Adopted => "adopted",
    }
}

fn store(store: Option<ringkeeper::log::StoreId>) -> Field {
    store.map_or(Field::Null, |store| text(format_args!("{:#034x}", store.0)))
}

/// Of a transaction, what the archived index says: nothing is decoded.
fn record_fields(record: &Record<'_>, is_checked: bool) -> Vec<(&'static str, Field)> {
    let mut fields = vec![
        ("position", Field::Number(record.position.0)),
        ("zxid", text(record.zxid)),
        ("durable_to", Field::Number(record.durable_to.0)),
        ("committed_to", text(record.committed_to)),
    ];
    if !is_checked {
        fields.push(("checked", Field::Flag(false)));
    }
    if !record.kind.is_transaction() {
        fields.push(("bytes", Field::Number(record.payload.len() as u64)));
        return fields;
    }
    let Ok(archived) = record::access(record.payload) else {
        fields.push(("bytes", Field::Number(record.payload.len() as u64)));
        return fields;
    };
    let header = archived.header();
    fields.extend([
        ("op", text(format_args!("{:?}", header.op))),
        ("session", text(header.session)),
        ("cxid", Field::Signed(header.cxid.into())),
        ("time", Field::Signed(header.time.0)),
    ]);
    if let Some(path) = archived.path() {
        fields.push(("path", text(String::from_utf8_lossy(path))));
    }
    if let Some(data) = archived.data() {
        fields.push(("data", Field::Number(data.len() as u64)));
    }
    fields.push(("entry", Field::Number(archived.entry.len() as u64)));
    fields
}
