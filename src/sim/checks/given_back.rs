//! Whatever connections, sockets, sessions and transactions under way hold is given back, however they end: what
//! is kept count of step by step is what each of those that are there holds.

use crate::log::storage::Storage;
use crate::pipeline::Pipeline;
use crate::placement::ServingCore;
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

/// Of whoever orders, behind a turn.
pub(in crate::sim) fn by_requests<S: Storage>(pipeline: &Pipeline<S>) -> Result<(), String> {
    equal("requests", pipeline.counted(), pipeline.recounted())
}
