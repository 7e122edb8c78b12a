//! Snapshots on their way to learners and from a leader, as far as that blocks: a piece is read or kept beside the core.
//! One is read and one is kept at a time.

use crate::log::snapshot_file::{BodyReader, SnapshotError};
use crate::log::storage::Storage;
use crate::log::{Received, Receiving, StoreId};
use crate::peers::{STREAM_PIECE, native_head};
use crate::snapshot::{Foreign, ForeignError};
use crate::types::Zxid;
use crate::zab::LinkId;
use std::io;

/// Something to do where blocking is allowed.
pub enum Transfer<S: Storage> {
    /// Read the next piece for a learner.
    Read {
        /// Its connection.
        link: LinkId,
        /// Of which snapshot.
        from: Reading<S>,
    },
    /// Keep the next piece of the leader's.
    Keep {
        /// Its connection.
        link: LinkId,
        /// With what came before.
        into: Keeping<S>,
        /// Of the body.
        bytes: Vec<u8>,
        /// There are no more: it becomes durable.
        is_last: bool,
    },
}

/// How far one has been read.
pub enum Reading<S: Storage> {
    /// Not at all.
    At(Zxid),
    /// There is more.
    Open(Box<BodyReader<S>>),
}

/// How far one has been kept.
pub enum Keeping<S: Storage> {
    /// Not at all.
    Of(Zxid, StoreId),
    /// There is more.
    Begun(Box<Receiving<S>>),
    /// The same, in the form of Apache's server.
    Foreign(Box<Foreign>, Zxid, StoreId),
}

/// One that was done.
pub enum Transferred<S: Storage> {
    /// Of [`Transfer::Read`].
    Read {
        /// The learner's connection.
        link: LinkId,
        /// What was read; with the reader, if there is more.
        read: Result<(Vec<u8>, Option<Reading<S>>), SnapshotError>,
    },
    /// Of [`Transfer::Keep`].
    Kept {
        /// The leader's connection.
        link: LinkId,
        /// How far it is.
        kept: io::Result<Kept<S>>,
    },
}

/// What is kept of a leader's snapshot.
pub enum Kept<S: Storage> {
    /// A part.
    Part(Keeping<S>),
    /// All of it, durably.
    Whole(Received),
}

impl<S: Storage> Transfer<S> {
    /// Does it; snapshots are in `data`. Blocks.
    pub fn run(self, data: &S) -> Transferred<S> {
        match self {
            Transfer::Read { link, from } => Transferred::Read {
                link,
                read: read(data, from),
            },
            Transfer::Keep {
                link,
                into,
                bytes,
                is_last,
            } => Transferred::Kept {
                link,
                kept: keep(data, into, &bytes, is_last),
            },
        }
    }
}

type Piece<S> = (Vec<u8>, Option<Reading<S>>);

fn read<S: Storage>(data: &S, from: Reading<S>) -> Result<Piece<S>, SnapshotError> {
    let mut out = Vec::new();
    let mut reader = match from {
        Reading::Open(reader) => reader,
        Reading::At(zxid) => {
            let reader = BodyReader::open(data, zxid)?;
            out.extend(native_head(reader.bytes()));
            Box::new(reader)
        }
    };
    let is_last = reader.take(STREAM_PIECE, &mut out)?;
    Ok((out, (!is_last).then_some(Reading::Open(reader))))
}

fn keep<S: Storage>(
    data: &S,
    into: Keeping<S>,
    bytes: &[u8],
    is_last: bool,
) -> io::Result<Kept<S>> {
    let mut receiving = match into {
        Keeping::Begun(receiving) => receiving,
        Keeping::Of(zxid, store) => Box::new(Receiving::create(data, zxid, store)?),
        Keeping::Foreign(mut foreign, zxid, store) => {
            foreign.push(bytes).map_err(io::Error::other)?;
            if !is_last {
                return Ok(Kept::Part(Keeping::Foreign(foreign, zxid, store)));
            }
            let mut receiving = Receiving::create(data, zxid, store)?;
            let mut kept = Ok(());
            let made = foreign.finish(zxid, &mut |piece| {
                kept = receiving.push(piece);
                match kept {
                    Ok(()) => Ok(()),
                    Err(_) => Err(ForeignError::Content("it can't be kept")),
                }
            });
            kept?;
            made.map_err(io::Error::other)?;
            return Ok(Kept::Whole(receiving.finish()?.0));
        }
    };
    receiving.push(bytes)?;
    match is_last {
        false => Ok(Kept::Part(Keeping::Begun(receiving))),
        true => Ok(Kept::Whole(receiving.finish()?.0)),
    }
}
