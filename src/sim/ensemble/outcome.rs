//! What is to be run of an ensemble, what came of it, and how often each thing happened.

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct EnsembleOptions {
    /// Decides everything.
    pub seed: u64,
    /// Members, observers included; 0: the seed decides.
    pub members: u8,
}

/// What came of a seed.
#[derive(Clone, Debug)]
pub struct EnsembleOutcome {
    /// Hash over all events of the run.
    pub hash: String,
    /// Virtual milliseconds.
    pub virtual_ms: u64,
    /// What happened.
    pub counts: Counts,
    /// The first promise that was broken.
    pub violation: Option<String>,
}

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// How often each thing happened.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Counts {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counts {
            /// With their names.
            pub fn named(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)*]
            }
        }
    };
}

counts! {
    // Faults.
    /// Processes that died, their page cache stayed.
    kills,
    /// Members that lost their power.
    power_cuts,
    /// Of both, those in the middle of what the member did.
    cuts_at_an_effect,
    /// Of these, while a start was recovering.
    cuts_in_recovery,
    /// All members lost their power at once.
    blackouts,
    /// Members held still.
    pauses,
    /// Disks replaced by empty ones.
    wipes,
    /// One of the two files of a record was lost while the member was down.
    record_copies_lost,
    /// Disks without room for a while.
    full_disks,
    /// Creates and writes that found no room.
    refused_for_room,
    /// Disks that were slow for a while.
    slow_disks,
    /// Times in which calls failed.
    failing_calls,
    /// Calls that failed.
    calls_failed,
    /// Processes that ended because a call had failed.
    ended_by_failures,
    /// Starts that failed because a call did.
    starts_failed,
    /// Sectors that lost an unsynced write.
    sectors_lost,
    /// Sectors torn in their middle.
    sectors_torn,
    /// Directory operations lost.
    names_lost,
    /// Wall clocks that were set.
    clock_steps,
    /// Connections that broke.
    breaks,
    /// Members that nobody reached.
    isolations,
    /// Partitions of which one direction goes on.
    one_way_partitions,
    /// Pairs of members that did not reach each other.
    pair_partitions,
    /// Ensembles cut in two.
    splits,
    /// Connections of which only the end that was dialled knew.
    ghost_connections,
    /// Connections of which the dialled end learned after others that were dialled later.
    late_connections,
    /// Seeds that begin shortly before the end of an epoch's zxids.
    near_rollover,
    /// Seeds with observers.
    with_observers,
    // Outcomes.
    /// Starts of members.
    starts,
    /// Leaders that began to serve.
    leaders,
    /// Followers and observers that began to serve.
    learners,
    /// Roles that ended.
    left,
    /// DIFFs received.
    diffs,
    /// TRUNCs received.
    truncs,
    /// SNAPs received.
    snaps,
    /// Snapshots of leaders that became the tree.
    installed,
    /// Pieces of the log read for learners.
    diffs_from_disk,
    /// What was committed and read back to be applied.
    read_back,
    /// Transactions applied ahead of the own disk.
    ahead_of_disk,
    /// COMMITs received before UPTODATE.
    commits_before_uptodate,
    /// Packets of a leader that waited because the log had no room.
    held_for_room,
    /// Roles lost with writes that had no outcome.
    lost_with_writes,
    /// Of these writes, those that were committed all the same.
    committed_after_loss,
    /// Members that were empty and count again.
    whole_again,
    /// Members that were out, in the calm, because they had promised a newer epoch than that of the leader.
    kept_out_by_a_promise,
    /// Writes asked for.
    writes,
    /// Writes acknowledged.
    acknowledged,
    /// Transactions of the one sequence.
    committed,
    /// Transactions applied, by all members.
    applied,
    /// Snapshots whose bytes were compared.
    snapshots_compared,
}
