//! The member's whole tree against the model.

use super::super::truth::{Node, Truth, parent};
use crate::tree::Tree;
use crate::txn::{AuthId, Stat};
use crate::types::SessionId;
use std::collections::BTreeMap;

/// Every node, its data, its list, its children and its Stat; every session, its timeout and its ephemerals.
pub(in crate::sim) fn compare(tree: &Tree, truth: &Truth) -> Result<(), String> {
    let zxid = truth.last();
    if tree.last_zxid() != zxid {
        return Err(format!("tree at {}, truth at {zxid}", tree.last_zxid()));
    }
    let anybody = [AuthId {
        scheme: "super".into(),
        id: "".into(),
    }];
    let mut nodes = 0;
    let mut children: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (path, node) in truth.paths() {
        nodes += 1;
        if let Some(name) = path.rsplit('/').next().filter(|name| !name.is_empty()) {
            children.entry(parent(path)).or_default().push(name);
        }
        let stat = tree
            .stat(path)
            .ok_or_else(|| format!("{path} is missing from the tree at {zxid}"))?;
        let (data, _) = tree
            .get_data(path, &anybody)
            .map_err(|e| format!("{path}: {e:?}"))?;
        let (acl, _) = tree
            .get_acl(path, &anybody)
            .map_err(|e| format!("{path}: {e:?}"))?;
        let same = data == node.data.as_deref() && acl[..] == node.acl[..] && stat == stat_of(node);
        if !same {
            return Err(format!(
                "{path} at {zxid}: tree {stat:?} {data:?} {acl:?}, truth {node:?}"
            ));
        }
    }
    for (path, _) in truth.paths() {
        let mut found: Vec<&[u8]> = tree.child_names(path, 0).collect();
        found.sort_unstable();
        let due = children.remove(&**path).unwrap_or_default();
        if !found
            .iter()
            .copied()
            .eq(due.iter().map(|name| name.as_bytes()))
        {
            return Err(format!(
                "{path} at {zxid} has {} children, not {due:?}",
                found.len()
            ));
        }
    }
    // The root counts twice.
    if tree.node_count() != nodes + 1 {
        return Err(format!(
            "the tree has {} nodes, the truth {nodes} + 1",
            tree.node_count()
        ));
    }
    compare_sessions(tree, truth)
}

fn compare_sessions(tree: &Tree, truth: &Truth) -> Result<(), String> {
    let zxid = truth.last();
    let due: Vec<(SessionId, i32)> = truth.living().collect();
    if !tree.sessions().eq(due.iter().copied()) {
        let found: Vec<_> = tree.sessions().collect();
        return Err(format!("sessions at {zxid}: tree {found:?}, truth {due:?}"));
    }
    let mut ephemerals = 0;
    for (session, _) in due {
        let own = truth.owned_at(session, zxid);
        if !tree.ephemerals(session).eq(own.iter().copied()) {
            let found: Vec<_> = tree.ephemerals(session).collect();
            return Err(format!(
                "ephemerals of {session} at {zxid}: tree {found:?}, truth {own:?}"
            ));
        }
        ephemerals += own.len();
    }
    match tree.ephemeral_count() == ephemerals {
        true => Ok(()),
        false => Err(format!("ephemerals of nobody who lives, at {zxid}")),
    }
}

fn stat_of(node: &Node) -> Stat {
    Stat {
        czxid: node.czxid,
        mzxid: node.mzxid,
        ctime: node.ctime,
        mtime: node.mtime,
        version: node.version,
        cversion: 2 * node.creates - node.children,
        aversion: node.aversion,
        ephemeral_owner: node.owner.0,
        data_length: node.data.as_ref().map_or(0, |data| data.len() as i32),
        num_children: node.children,
        pzxid: node.pzxid,
    }
}
