//! The member's whole tree against the model.

use super::super::truth::Truth;
use crate::tree::Tree;

/// Every node, its data and the fields of its Stat that the model knows.
pub(in crate::sim) fn compare(tree: &Tree, truth: &Truth) -> Result<(), String> {
    let zxid = truth.last();
    if tree.last_zxid() != zxid {
        return Err(format!("tree at {}, truth at {zxid}", tree.last_zxid()));
    }
    let mut nodes = 0;
    for (path, node) in truth.paths() {
        nodes += 1;
        let stat = tree
            .stat(path)
            .ok_or_else(|| format!("{path} is missing from the tree at {zxid}"))?;
        let (data, _) = tree
            .get_data(path, &[])
            .map_err(|e| format!("{path}: {e:?}"))?;
        let same = data == node.data.as_deref()
            && stat.version == node.version
            && stat.czxid == node.czxid;
        let same = same && stat.mzxid == node.mzxid && stat.ephemeral_owner == node.owner.0;
        if !same || (stat.num_children != node.children && path.as_ref() != "/") {
            return Err(format!("{path} at {zxid}: tree {stat:?}, truth {node:?}"));
        }
    }
    // The root counts twice; /zookeeper, quota and config are not in the model.
    if tree.node_count() != nodes + 4 {
        return Err(format!(
            "the tree has {} nodes, the truth {nodes} + 4",
            tree.node_count()
        ));
    }
    Ok(())
}
