//! Whatever connections, sockets, sessions and transactions under way hold is given back, however they end: what
//! is kept count of step by step is what each of those that are there holds.

use crate::log::storage::Storage;
use crate::pipeline::Pipeline;
use crate::placement::{Orderer, ServingCore};
use core::fmt::Debug;

fn equal<T: Debug + PartialEq>(whose: &str, counted: T, recounted: T) -> Result<(), String> {
    match counted == recounted {
        true => Ok(()),
        false => Err(format!(
            "what {whose} hold was counted as {counted:?}, and is {recounted:?}"
        )),
    }
}

/// Of a core that serves, behind a turn.
pub(in crate::sim) fn by_connections<S: Storage>(core: &ServingCore<S>) -> Result<(), String> {
    let shard = core.served.shard();
    equal("connections", shard.counted(), shard.recounted())?;
    equal("sockets", core.counted(), core.recounted())?;
    match core.lost_connections() {
        0 => Ok(()),
        n => Err(format!("{n} connections of the shard have no socket")),
    }
}

/// Of replicas that were detached, behind a turn of whoever orders.
pub(in crate::sim) fn by_replicas<S: Storage>(orderer: &Orderer<S>) -> Result<(), String> {
    match orderer.has_given_back() {
        true => Ok(()),
        false => Err("something is kept for a replica that is not detached any more".into()),
    }
}

/// Of whoever orders, behind a turn.
pub(in crate::sim) fn by_requests<S: Storage>(pipeline: &Pipeline<S>) -> Result<(), String> {
    equal("requests", pipeline.counted(), pipeline.recounted())
}
