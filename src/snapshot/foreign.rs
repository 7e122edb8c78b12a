//! A snapshot in the form of Apache's server (docs/peer-protocol.md §2.8), made into a body of ours. That form has
//! children in any order, and lists of permissions ahead of all nodes: everything is in memory until the last byte.

use crate::tree::{BodyNode, BodyWriter, NodeStat, SessionHighWater};
use crate::txn::Acl;
use crate::txn::jute::{JuteError, Put, Reader};
use crate::types::{SessionId, Zxid};
use std::collections::BTreeMap;

/// Behind the last node.
const SIGNATURE: &[u8] = b"BenWasHere";
/// Path behind which the signature follows; the root's is empty.
const END: &str = "/";
/// Number of the list that grants everybody everything.
const OPEN: i64 = -1;

/// Why it is no snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForeignError {
    /// A field can't be read.
    #[error("a snapshot of another form: {0}")]
    Jute(#[from] JuteError),
    /// The content contradicts itself.
    #[error("a snapshot of another form: {0}")]
    Content(&'static str),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Part {
    #[default]
    Head,
    Sessions(i32),
    Lists(i32),
    Nodes,
    Signature,
    Done,
}

#[derive(Debug)]
struct Node {
    data: Option<Box<[u8]>>,
    list: i64,
    stat: NodeStat,
}

/// One that comes, in the order of its bytes, cut anywhere.
#[derive(Debug, Default)]
pub struct Foreign {
    buffer: Vec<u8>,
    part: Part,
    sessions: BTreeMap<SessionId, i32>,
    /// Serialised.
    lists: BTreeMap<i64, Vec<u8>>,
    nodes: BTreeMap<Box<str>, Node>,
}

impl Foreign {
    /// The next bytes.
    ///
    /// # Errors
    /// [`ForeignError`].
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), ForeignError> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.extend_from_slice(bytes);
        let mut rest = &buffer[..];
        while self.part != Part::Done {
            // A field that is cut off here is read again when more has come.
            let mut reader = Reader::new(rest);
            match self.step(&mut reader) {
                Ok(()) => rest = reader.rest(),
                Err(ForeignError::Jute(JuteError::Short | JuteError::Length(0..))) => break,
                Err(error) => return Err(error),
            }
        }
        let used = buffer.len() - rest.len();
        buffer.drain(..used);
        self.buffer = buffer;
        Ok(())
    }

    /// Nothing has changed if what is there is too short.
    fn step(&mut self, r: &mut Reader<'_>) -> Result<(), ForeignError> {
        match self.part {
            Part::Head => self.part = Part::Sessions(r.i32()?),
            Part::Sessions(0) => self.part = Part::Lists(r.i32()?),
            Part::Lists(0) => self.part = Part::Nodes,
            Part::Sessions(..0) | Part::Lists(..0) => {
                return Err(ForeignError::Content("a count below 0"));
            }
            Part::Sessions(left) => {
                let (id, timeout_ms) = (SessionId(r.i64()?), r.i32()?);
                self.sessions.insert(id, timeout_ms);
                self.part = Part::Sessions(left - 1);
            }
            Part::Lists(left) => {
                let (number, list) = (r.i64()?, r.vec(Reader::acl)?.unwrap_or_default());
                self.lists.insert(number, serialised(&list));
                self.part = Part::Lists(left - 1);
            }
            Part::Nodes => self.node(r)?,
            Part::Signature => {
                if r.buf()? != Some(SIGNATURE) {
                    return Err(ForeignError::Content("another signature"));
                }
                self.part = Part::Done;
            }
            Part::Done => {}
        }
        Ok(())
    }

    fn node(&mut self, r: &mut Reader<'_>) -> Result<(), ForeignError> {
        let path = r.required_str()?;
        if *path == *END {
            self.part = Part::Signature;
            return Ok(());
        }
        let (data, list) = (r.buf()?.map(Box::from), r.i64()?);
        let stat = stat(r)?;
        let path = match &*path {
            "" => END.into(),
            path => Box::from(path),
        };
        let node = Node { data, list, stat };
        match self.nodes.insert(path, node) {
            None => Ok(()),
            Some(_) => Err(ForeignError::Content("a path comes twice")),
        }
    }

    /// Everything has come: hands over the body of the state behind `zxid`, piece by piece.
    ///
    /// # Errors
    /// [`ForeignError`], or what `sink` fails with.
    pub fn finish<E: From<ForeignError>>(
        self,
        zxid: Zxid,
        sink: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.part != Part::Done || !self.buffer.is_empty() {
            return Err(ForeignError::Content("it ends early, or goes on behind its end").into());
        }
        if !self.nodes.contains_key(END) {
            return Err(ForeignError::Content("there is no root").into());
        }
        // Of those that are gone nobody knows any more; each server reserves its own ahead.
        let high_water: SessionHighWater = self.sessions.keys().copied().collect();
        let mut body = BodyWriter::new(zxid, &high_water);
        for (id, timeout_ms) in &self.sessions {
            body.put_session(*id, *timeout_ms);
            body.drain(sink)?;
        }
        let open = serialised(&[Acl {
            perms: 31,
            scheme: "world".into(),
            id: "anyone".into(),
        }]);
        let mut digest = 0u64;
        for (path, Node { data, list, stat }) in &self.nodes {
            let acl = match *list {
                OPEN => Some(&open),
                number => self.lists.get(&number),
            };
            let node = BodyNode {
                path,
                data: data.as_deref(),
                acl: acl.ok_or(ForeignError::Content("a list that is not there"))?,
                stat: *stat,
            };
            digest = digest.wrapping_add(node.digest());
            body.put_node(&node);
            body.drain(sink)?;
        }
        body.finish(digest, sink)
    }
}

fn serialised(list: &[Acl]) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_acls(list);
    out
}

/// In the order of Apache's server.
fn stat(r: &mut Reader<'_>) -> Result<NodeStat, JuteError> {
    let (czxid, mzxid) = (Zxid(r.i64()?), Zxid(r.i64()?));
    let (ctime, mtime) = (r.i64()?, r.i64()?);
    let (version, cversion, aversion) = (r.i32()?, r.i32()?, r.i32()?);
    let owner = r.i64()?;
    Ok(NodeStat {
        czxid,
        mzxid,
        pzxid: Zxid(r.i64()?),
        ctime,
        mtime,
        version,
        cversion,
        aversion,
        owner,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{BodyReader, Tree};
    use crate::txn::golden::hex;

    const ZXID: Zxid = Zxid::new(2, 9);

    fn text(text: &str) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_str(text);
        out
    }

    fn node(path: &str, data: &str, list: i64) -> Vec<u8> {
        let mut out = text(path);
        out.extend(text(data));
        out.put_i64(list);
        [1, 2, 1000, 2000].into_iter().for_each(|v| out.put_i64(v));
        [3, 4, 5].into_iter().for_each(|v| out.put_i32(v));
        out.put_i64(0);
        out.put_i64(6);
        out
    }

    /// A session, a list, and nodes of which children come in another order than ours.
    fn stream(last: &[u8]) -> Vec<u8> {
        let mut out =
            hex("00000001 0100000000000001 00002710 00000001 0000000000000007 00000001 0000001f");
        out.extend(text("ip"));
        out.extend(text("10.0.0.1"));
        for (path, data, list) in [
            ("", "", -1),
            ("/zookeeper", "", -1),
            ("/zookeeper/quota", "", -1),
            ("/zookeeper/config", "version=0", -1),
            ("/b", "x", 7),
            ("/b/c", "y", 7),
            ("/a", "z", -1),
        ] {
            out.extend(node(path, data, list));
        }
        out.extend(text("/"));
        out.extend(last);
        out
    }

    fn body(bytes: &[u8], cut: usize) -> Result<Vec<u8>, ForeignError> {
        let mut foreign = Foreign::default();
        for piece in bytes.chunks(cut) {
            foreign.push(piece)?;
        }
        let mut body = Vec::new();
        foreign.finish(ZXID, &mut |piece| {
            body.extend_from_slice(piece);
            Ok::<(), ForeignError>(())
        })?;
        Ok(body)
    }

    fn tree(body: &[u8]) -> Tree {
        let mut reader = BodyReader::default();
        reader.push(body).unwrap();
        reader.finish().unwrap()
    }

    #[test]
    fn its_body_is_that_of_the_same_state_however_it_is_cut() {
        let bytes = stream(&text("BenWasHere"));
        let whole = body(&bytes, bytes.len()).unwrap();
        let tree = tree(&whole);
        assert_eq!((tree.last_zxid(), tree.sessions().len()), (ZXID, 1));
        let mut ours = Vec::new();
        let Ok(()) = tree.write_body(&mut |piece: &[u8]| {
            ours.extend_from_slice(piece);
            Ok::<(), std::convert::Infallible>(())
        });
        assert_eq!(
            ours, whole,
            "the digest and the order are those of the tree"
        );
        for cut in 1..200 {
            assert_eq!(body(&bytes, cut).unwrap(), whole, "{cut}");
        }
    }

    #[test]
    fn what_is_no_snapshot_is_no_body() {
        let good = stream(&text("BenWasHere"));
        for (bytes, due) in [
            (good[..good.len() - 1].to_vec(), "it ends early"),
            (stream(&text("BenWasHerE")), "another signature"),
            (hex("ffffffff"), "a count below 0"),
            (
                hex("00000000 00000000 00000001 2f 0000000a 42656e57617348657265"),
                "there is no root",
            ),
        ] {
            let said = body(&bytes, 7).unwrap_err().to_string();
            assert!(said.contains(due), "{said}");
        }
        let twice = [node("", "", -1), node("", "", -1)].concat();
        let bytes = [hex("00000000 00000000"), twice].concat();
        assert!(body(&bytes, 9).unwrap_err().to_string().contains("twice"));
        let unknown = [
            hex("00000000 00000000"),
            node("", "", 3),
            text("/"),
            text("BenWasHere"),
        ];
        let said = body(&unknown.concat(), 9).unwrap_err().to_string();
        assert!(said.contains("a list that is not there"), "{said}");
    }
}
