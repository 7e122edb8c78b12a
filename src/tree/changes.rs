//! What transactions have changed, as patches of what was there before, which nobody has looked at.
//!
//! A snapshot is made of the one before it and of the patches of the transactions since. A patch is a
//! function from what was there, a node or nothing, to what is there now, and two of them in a row are one:
//! [`Patch::then`] is [`Tree::apply`](super::Tree::apply) for one path.
//!
//! | Transaction | Patch of its path | Patch of the parent |
//! |---|---|---|
//! | create | nothing becomes the node; of a node that is there the ACL is replaced | cversion and pzxid are raised, if the new cversion is greater |
//! | delete, and each path of a closeSession | nothing is there | pzxid is raised |
//! | setData, setACL | a node that is there is changed | – |
//! | createSession, closeSession | the session is there, or is not | – |
//! | a failed one, also a multi | – | – |
//!
//! A few effects of a transaction on a path depend on other paths, and are taken for granted, because
//! whoever makes a transaction has checked them:
//!
//! | Taken for granted | Held by |
//! |---|---|
//! | a parent is there when its child is created, and loses none when it is deleted | whoever writes the nodes in order, who sees both |
//! | a create of another type than `create` finds nothing, else it would not raise its parent | [`Patch::then`], [`Patch::apply`] |
//! | a closeSession lists all that its session has left | the digest of the tree |
//! | no create leaves the parent's cversion to be counted; a closeSession has a list | [`Changes::add`] |
//!
//! Logs that only this server has written keep to all of these. What breaks one is a [`Contradiction`].

use super::apply::new_node;
use super::creators::SessionHighWater;
use super::path::{parent_path, stored_below};
use super::snapshot_body::{BodyNode, put_stat, read_stat};
use super::stored::NodeStat;
use super::walked::WalkedNode;
use crate::txn::jute::{JuteError, Put, Reader};
use crate::txn::{Acl, CreateTxn, Data, Entry, Txn, TxnDigest, TxnHeader};
use crate::types::{DetHashSet, OpCode, SessionId, Zxid};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a patch is for; sorted as in the body of a snapshot.
pub(crate) type Key = Box<[u8]>;

/// A serialised ACL list.
type List = Arc<[u8]>;

/// What an entry of a map costs beside what it holds, and an allocation beside its bytes: more than both
/// take, bytes.
const ENTRY_BYTES: usize = 96;
const ALLOCATION_BYTES: usize = 32;

/// A session's key: before those of all nodes, which begin with a slash.
pub(crate) fn session_key(id: SessionId) -> [u8; 9] {
    let mut key = [0; 9];
    key[1..].copy_from_slice(&(id.0 ^ i64::MIN).to_be_bytes());
    key
}

/// The transactions do not fit the state before them, or what can be known of it here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the log does not fit the snapshot before it: {0}")]
pub struct Contradiction(pub &'static str);

/// What has become of a node or a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Patch {
    /// The session is there, with its timeout, or is not.
    Session(Option<i32>),
    /// Whatever was there: this is.
    Node(Option<Box<Image>>),
    /// That depends on whether there was a node.
    Edit(Box<Edit>),
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Image {
    data: Data,
    acl: List,
    stat: NodeStat,
}

/// What becomes of a node that is there, and of nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Edit {
    /// If there was nothing.
    absent: Option<Image>,
    /// There must have been nothing.
    needs_absence: bool,
    data: Option<NewData>,
    acl: Option<List>,
    aversion: Option<i32>,
    /// A cversion, and the pzxid that comes with it where the node's is smaller.
    raise: Option<(i32, Zxid)>,
    /// The least pzxid, whatever the cversion.
    pzxid: Option<Zxid>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct NewData {
    data: Data,
    version: i32,
    mzxid: Zxid,
    mtime: i64,
}

fn data_bytes(data: &Data) -> usize {
    let bytes = data.as_ref().map(|data| data.len() + ALLOCATION_BYTES);
    bytes.unwrap_or(0)
}

impl Image {
    fn as_node<'a>(&'a self, path: &'a str) -> BodyNode<'a> {
        BodyNode {
            path,
            data: self.data.as_deref(),
            acl: &self.acl,
            stat: self.stat,
        }
    }

    /// As [`Edit::over`].
    fn change(&mut self, edit: &Edit) {
        if let Some(new) = &edit.data {
            self.data = new.data.clone();
        }
        if let Some(acl) = &edit.acl {
            self.acl = acl.clone();
        }
        edit.restat(&mut self.stat);
    }
}

impl Edit {
    /// The node, changed.
    fn over<'a>(&'a self, mut node: BodyNode<'a>) -> BodyNode<'a> {
        if let Some(new) = &self.data {
            node.data = new.data.as_deref();
        }
        if let Some(acl) = &self.acl {
            node.acl = acl;
        }
        self.restat(&mut node.stat);
        node
    }

    fn restat(&self, stat: &mut NodeStat) {
        if let Some(new) = &self.data {
            stat.version = new.version;
            stat.mzxid = new.mzxid;
            stat.mtime = new.mtime;
        }
        if let Some(aversion) = self.aversion {
            stat.aversion = aversion;
        }
        if let Some((cversion, zxid)) = self.raise.filter(|(c, _)| *c > stat.cversion) {
            stat.cversion = cversion;
            stat.pzxid = zxid;
        }
        if let Some(zxid) = self.pzxid {
            stat.pzxid = stat.pzxid.max(zxid);
        }
    }

    /// This one and a later one in one.
    fn add(&mut self, later: Edit) -> Result<(), Contradiction> {
        if later.needs_absence {
            absent(self.absent.is_none())?;
            self.needs_absence = true;
        }
        match &mut self.absent {
            Some(image) => image.change(&later),
            None => self.absent = later.absent,
        }
        self.data = later.data.or(self.data.take());
        self.acl = later.acl.or(self.acl.take());
        self.aversion = later.aversion.or(self.aversion);
        // Zxids grow: the raise that counts has a later one than whatever raised the pzxid before it.
        self.raise = match (self.raise, later.raise) {
            (Some(first), Some(second)) if first.0 >= second.0 => Some(first),
            (first, second) => second.or(first),
        };
        self.pzxid = self.pzxid.max(later.pzxid);
        Ok(())
    }

    fn bytes(&self) -> usize {
        let absent = self.absent.as_ref().map_or(0, |i| data_bytes(&i.data));
        let new = self.data.as_ref().map_or(0, |new| data_bytes(&new.data));
        size_of::<Edit>() + absent + new
    }
}

fn absent(is_absent: bool) -> Result<(), Contradiction> {
    match is_absent {
        true => Ok(()),
        false => Err(Contradiction("a node is created twice")),
    }
}

impl Patch {
    fn edit(edit: Edit) -> Patch {
        Patch::Edit(Box::new(edit))
    }

    /// This one and a later one in one.
    ///
    /// # Errors
    /// [`Contradiction`].
    pub(crate) fn then(self, later: Patch) -> Result<Patch, Contradiction> {
        let edit = match later {
            Patch::Session(_) | Patch::Node(_) => return Ok(later),
            Patch::Edit(edit) => edit,
        };
        Ok(match self {
            Patch::Session(_) => return Err(Contradiction("a session is changed like a node")),
            Patch::Node(None) => Patch::Node(edit.absent.map(Box::new)),
            Patch::Node(Some(mut image)) => {
                absent(!edit.needs_absence)?;
                image.change(&edit);
                Patch::Node(Some(image))
            }
            Patch::Edit(mut before) => {
                before.add(*edit)?;
                Patch::Edit(before)
            }
        })
    }

    /// What is there now, if this was there before.
    ///
    /// # Errors
    /// [`Contradiction`].
    pub(crate) fn apply<'a>(
        &'a self,
        path: &'a str,
        before: Option<BodyNode<'a>>,
    ) -> Result<Option<BodyNode<'a>>, Contradiction> {
        match (self, before) {
            (Patch::Session(_), _) => Err(Contradiction("a session is changed like a node")),
            (Patch::Node(image), _) => Ok(image.as_ref().map(|image| image.as_node(path))),
            (Patch::Edit(edit), None) => Ok(edit.absent.as_ref().map(|image| image.as_node(path))),
            (Patch::Edit(edit), Some(node)) => {
                absent(!edit.needs_absence)?;
                Ok(Some(edit.over(node)))
            }
        }
    }

    /// Whether what is there now was created or removed, whatever was there before.
    pub(crate) fn replaces(&self) -> bool {
        matches!(self, Patch::Node(_))
    }

    /// Whether there is a node now, for sure.
    fn makes_present(&self) -> bool {
        match self {
            Patch::Session(_) => false,
            Patch::Node(image) => image.is_some(),
            Patch::Edit(edit) => edit.absent.is_some(),
        }
    }

    /// Bytes of memory, without those of ACL lists, which are shared.
    fn bytes(&self) -> usize {
        match self {
            Patch::Session(_) | Patch::Node(None) => 0,
            Patch::Node(Some(image)) => size_of::<Image>() + data_bytes(&image.data),
            Patch::Edit(edit) => edit.bytes(),
        }
    }
}

impl WalkedNode {
    /// The node, as a patch of its path.
    pub(crate) fn into_patch(self) -> (Key, Patch) {
        let mut acl = Vec::new();
        acl.put_acls(&self.acl);
        let image = Image {
            data: self.data,
            acl: acl.into(),
            stat: self.stored,
        };
        let patch = Patch::Node(Some(Box::new(image)));
        (self.path.as_bytes().into(), patch)
    }

    /// Bytes of memory, if nobody shares them.
    pub(crate) fn memory(&self) -> usize {
        size_of::<WalkedNode>() + self.path.len() + ALLOCATION_BYTES + data_bytes(&self.data)
    }
}

/// What is known of the tree's digest behind the transactions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Known {
    /// It is what it was before.
    #[default]
    AsBefore,
    /// The transaction says so.
    Said(Zxid, u64),
    Nothing,
}

/// The patches of transactions, taken in their order.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    patches: BTreeMap<Key, Patch>,
    /// Each list once.
    lists: DetHashSet<List>,
    bytes: usize,
    high_water: SessionHighWater,
    digest: Known,
}

impl Changes {
    /// Takes the next transaction.
    ///
    /// # Errors
    /// [`Contradiction`].
    pub(crate) fn add(&mut self, entry: &Entry) -> Result<(), Contradiction> {
        let header = &entry.header;
        let changes = match &entry.txn {
            Txn::Multi(ops) => {
                let is_failed = ops.iter().any(|(_, txn)| matches!(txn, Txn::Error { .. }));
                for (op, txn) in ops.iter().filter(|_| !is_failed) {
                    self.add_one(header, *op, txn)?;
                }
                !is_failed
            }
            Txn::Error { .. } => false,
            txn => {
                self.add_one(header, header.op, txn)?;
                true
            }
        };
        self.digest = match entry.digest {
            Some(TxnDigest {
                version: TxnDigest::VERSION,
                tree,
            }) => Known::Said(header.zxid, tree),
            _ if changes => Known::Nothing,
            _ => self.digest,
        };
        Ok(())
    }

    fn add_one(&mut self, header: &TxnHeader, op: OpCode, txn: &Txn) -> Result<(), Contradiction> {
        match txn {
            Txn::Create(create) => self.create(header, op, create),
            Txn::Delete { path } => self.delete(header.zxid, path),
            Txn::SetData {
                path,
                data,
                version,
            } => {
                let data = Some(NewData {
                    data: data.clone(),
                    version: *version,
                    mzxid: header.zxid,
                    mtime: header.time.0,
                });
                let edit = Edit {
                    data,
                    ..Edit::default()
                };
                self.edit(path, edit)
            }
            Txn::SetAcl { path, acl, version } => {
                let edit = Edit {
                    acl: Some(self.list(acl)),
                    aversion: Some(*version),
                    ..Edit::default()
                };
                self.edit(path, edit)
            }
            Txn::CreateSession { timeout_ms } => {
                self.high_water.raise(header.session);
                self.patch(
                    &session_key(header.session),
                    Patch::Session(Some(*timeout_ms)),
                )
            }
            Txn::CloseSession { paths } => {
                let paths = paths.as_ref();
                let paths = paths.ok_or(Contradiction("a session is closed without a list"))?;
                for path in paths {
                    self.delete(header.zxid, path)?;
                }
                self.patch(&session_key(header.session), Patch::Session(None))
            }
            Txn::Check { .. } | Txn::Error { .. } | Txn::Multi(_) => Ok(()),
        }
    }

    fn create(
        &mut self,
        header: &TxnHeader,
        op: OpCode,
        create: &CreateTxn,
    ) -> Result<(), Contradiction> {
        let Some(parent) = stored_below(&create.path) else {
            return Ok(());
        };
        if create.parent_cversion == -1 {
            return Err(Contradiction("a create does not say how many there were"));
        }
        let acl = self.list(&create.acl);
        let known = self.patches.get(create.path.as_bytes());
        let is_present = known.is_some_and(Patch::makes_present);
        let is_plain = op == OpCode::CREATE;
        if is_plain || !is_present {
            let edit = Edit {
                raise: Some((create.parent_cversion, header.zxid)),
                ..Edit::default()
            };
            self.edit(parent, edit)?;
        }
        let image = Image {
            data: create.data.clone(),
            acl: acl.clone(),
            stat: new_node(header, op, create),
        };
        let edit = Edit {
            absent: Some(image),
            needs_absence: !is_plain && !is_present,
            acl: Some(acl),
            ..Edit::default()
        };
        self.edit(&create.path, edit)
    }

    fn delete(&mut self, zxid: Zxid, path: &str) -> Result<(), Contradiction> {
        let Some(parent) = parent_path(path) else {
            return Ok(());
        };
        let edit = Edit {
            pzxid: Some(zxid),
            ..Edit::default()
        };
        self.edit(parent, edit)?;
        match path {
            "/" => Ok(()),
            _ => self.patch(path.as_bytes(), Patch::Node(None)),
        }
    }

    fn edit(&mut self, path: &str, edit: Edit) -> Result<(), Contradiction> {
        self.patch(path.as_bytes(), Patch::edit(edit))
    }

    fn patch(&mut self, key: &[u8], patch: Patch) -> Result<(), Contradiction> {
        // A path without a slash at its front is no node's, and could be a session's key.
        if !key.starts_with(b"/") && !matches!(patch, Patch::Session(_)) {
            return Ok(());
        }
        if let Some(known) = self.patches.get_mut(key) {
            self.bytes -= known.bytes();
            let before = std::mem::replace(known, Patch::Node(None));
            *known = before.then(patch)?;
            self.bytes += known.bytes();
        } else {
            self.bytes += ENTRY_BYTES + key.len() + patch.bytes();
            self.patches.insert(key.into(), patch);
        }
        Ok(())
    }

    fn list(&mut self, acl: &[Acl]) -> List {
        let mut list = Vec::new();
        list.put_acls(acl);
        if let Some(known) = self.lists.get(&list[..]) {
            return known.clone();
        }
        let list = List::from(list);
        self.bytes += list.len() + ALLOCATION_BYTES + ENTRY_BYTES;
        self.lists.insert(list.clone());
        list
    }

    /// Bytes of memory.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Gives away the patches of all transactions since the last time, sorted.
    pub(crate) fn take_patches(&mut self) -> BTreeMap<Key, Patch> {
        self.lists.clear();
        self.bytes = 0;
        std::mem::take(&mut self.patches)
    }

    /// The highest ids of the sessions that were created.
    pub(crate) fn high_water(&self) -> &SessionHighWater {
        &self.high_water
    }

    /// The digest that the tree must have now, and which transaction says so, if it had this one before and
    /// anything says so.
    pub(crate) fn digest(&self, before: u64) -> Option<(Option<Zxid>, u64)> {
        match self.digest {
            Known::AsBefore => Some((None, before)),
            Known::Said(zxid, digest) => Some((Some(zxid), digest)),
            Known::Nothing => None,
        }
    }
}

const SESSION: u8 = 0;
const NO_SESSION: u8 = 1;
const NODE: u8 = 2;
const NO_NODE: u8 = 3;
const EDIT: u8 = 4;

/// ```text
/// patch  = 0 ‖ timeout i32 | 1 | 2 ‖ image | 3 | 4 ‖ edit
/// image  = data buf ‖ acl buf ‖ stored, as in the body of a snapshot
/// edit   = needsAbsence bool ‖ [image] ‖ [data buf ‖ version i32 ‖ mzxid i64 ‖ mtime i64] ‖ [acl buf]
///          ‖ [aversion i32] ‖ [cversion i32 ‖ pzxid i64] ‖ [pzxid i64]
/// [x]    = 0 u8 | 1 u8 ‖ x
/// ```
impl Patch {
    /// Appends the patch.
    pub(crate) fn encode_into(&self, out: &mut Vec<u8>) {
        match self {
            Patch::Session(None) => out.push(NO_SESSION),
            Patch::Session(Some(timeout_ms)) => {
                out.push(SESSION);
                out.put_i32(*timeout_ms);
            }
            Patch::Node(None) => out.push(NO_NODE),
            Patch::Node(Some(image)) => {
                out.push(NODE);
                image.encode_into(out);
            }
            Patch::Edit(edit) => {
                out.push(EDIT);
                edit.encode_into(out);
            }
        }
    }

    /// Reads a patch.
    ///
    /// # Errors
    /// [`JuteError`] for what [`Patch::encode_into`] has not written.
    pub(crate) fn decode(r: &mut Reader<'_>) -> Result<Patch, JuteError> {
        Ok(match r.u8()? {
            SESSION => Patch::Session(Some(r.i32()?)),
            NO_SESSION => Patch::Session(None),
            NODE => Patch::Node(Some(Box::new(Image::decode(r)?))),
            NO_NODE => Patch::Node(None),
            EDIT => Patch::edit(Edit::decode(r)?),
            other => return Err(JuteError::Length(other.into())),
        })
    }
}

impl Image {
    fn encode_into(&self, out: &mut Vec<u8>) {
        out.put_buf(self.data.as_deref());
        out.put_buf(Some(&self.acl));
        put_stat(out, &self.stat);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Image, JuteError> {
        Ok(Image {
            data: r.data()?,
            acl: r.buf()?.ok_or(JuteError::Null)?.into(),
            stat: read_stat(r)?,
        })
    }
}

impl Edit {
    fn encode_into(&self, out: &mut Vec<u8>) {
        out.put_bool(self.needs_absence);
        put_option(out, self.absent.as_ref(), |out, image| {
            image.encode_into(out)
        });
        put_option(out, self.data.as_ref(), |out, new| {
            out.put_buf(new.data.as_deref());
            out.put_i32(new.version);
            out.put_i64(new.mzxid.0);
            out.put_i64(new.mtime);
        });
        put_option(out, self.acl.as_ref(), |out, acl| out.put_buf(Some(acl)));
        put_option(out, self.aversion, |out, aversion| out.put_i32(aversion));
        put_option(out, self.raise, |out, (cversion, zxid)| {
            out.put_i32(cversion);
            out.put_i64(zxid.0);
        });
        put_option(out, self.pzxid, |out, zxid| out.put_i64(zxid.0));
    }

    fn decode(r: &mut Reader<'_>) -> Result<Edit, JuteError> {
        Ok(Edit {
            needs_absence: r.bool()?,
            absent: option(r, Image::decode)?,
            data: option(r, |r| {
                Ok(NewData {
                    data: r.data()?,
                    version: r.i32()?,
                    mzxid: Zxid(r.i64()?),
                    mtime: r.i64()?,
                })
            })?,
            acl: option(r, |r| Ok(r.buf()?.ok_or(JuteError::Null)?.into()))?,
            aversion: option(r, Reader::i32)?,
            raise: option(r, |r| Ok((r.i32()?, Zxid(r.i64()?))))?,
            pzxid: option(r, |r| r.i64().map(Zxid))?,
        })
    }
}

fn put_option<T>(out: &mut Vec<u8>, value: Option<T>, put: impl FnOnce(&mut Vec<u8>, T)) {
    out.put_bool(value.is_some());
    if let Some(value) = value {
        put(out, value);
    }
}

fn option<'a, T>(
    r: &mut Reader<'a>,
    read: impl FnOnce(&mut Reader<'a>) -> Result<T, JuteError>,
) -> Result<Option<T>, JuteError> {
    match r.bool()? {
        true => read(r).map(Some),
        false => Ok(None),
    }
}
