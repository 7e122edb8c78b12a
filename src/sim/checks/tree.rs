//! The member's whole tree against the model.

use super::super::truth::{Node, Truth};
use crate::tree::Tree;
use crate::txn::{AuthId, Stat};

/// Every node, its data, its list and its Stat.
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
    for (path, node) in truth.paths() {
        nodes += 1;
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
    // The root counts twice.
    if tree.node_count() != nodes + 1 {
        return Err(format!(
            "the tree has {} nodes, the truth {nodes} + 1",
            tree.node_count()
        ));
    }
    Ok(())
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
