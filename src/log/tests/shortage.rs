//! A log whose spares can't always be made: what is said of the disk is what the last try has met, and no more.

use super::*;
use crate::log::writer::RETRY_MS;

#[derive(Clone, Debug)]
enum Step {
    /// If there is room.
    Append(usize),
    Order,
    /// The spare that was ordered is there, or finds no room.
    Made {
        fails: bool,
    },
    Tick,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0..30_000usize).prop_map(Step::Append),
        4 => Just(Step::Order),
        3 => Just(Step::Made { fails: false }),
        2 => Just(Step::Made { fails: true }),
        2 => Just(Step::Tick),
    ];
    proptest::collection::vec(step, 1..200)
}

/// What a log may answer, from what its tries have met.
#[derive(Default)]
struct Model {
    ready: u64,
    is_full: bool,
}

impl Model {
    fn agrees(&self, log: &Log<SimStorage>) -> Result<(), TestCaseError> {
        let Model { ready, is_full } = *self;
        prop_assert_eq!(log.is_full(), is_full && ready == 0);
        for len in [10, 20_000, SEGMENT as usize - 20_000] {
            let growing = log.room_for(Need::Growing, len);
            match (ready, is_full) {
                (0, true) => prop_assert_eq!(growing, Room::Full),
                (0, false) => prop_assert_ne!(growing, Room::Full),
                _ => prop_assert_eq!(growing, Room::Yes),
            }
            for need in [Need::Shrinking, Need::Reserve] {
                let room = log.room_for(need, len);
                match is_full {
                    true => prop_assert_ne!(room, Room::Wait),
                    false => prop_assert_eq!(room, growing),
                }
            }
        }
        Ok(())
    }
}

proptest! {
    #[test]
    fn growing_writes_are_refused_from_a_try_that_found_no_room_to_the_next_spare_and_never_else(
        steps in steps(),
    ) {
        let (disk, mut log) = fresh();
        let (mut model, mut order, mut zxid, mut ms) = (Model::default(), None, 0, 0);
        for step in steps {
            match step {
                Step::Append(len) => {
                    let rolls = log.counters().rolls;
                    if log.room_for(Need::Growing, len) == Room::Yes {
                        zxid += 1;
                        log.append(Zxid(zxid), &vec![7; len]).unwrap();
                    }
                    model.ready -= log.counters().rolls - rolls;
                    sync_if_due(&mut log);
                }
                Step::Order => order = order.or_else(|| log.poll_spare()),
                Step::Made { fails } => if let Some(due) = order.take() {
                    if fails {
                        fail_once(&disk, &[SeamCall::Create], FULL[0]);
                    }
                    log.spare_made(due.fulfil(&disk)).unwrap();
                    model.is_full = fails;
                    model.ready += u64::from(!fails);
                },
                Step::Tick => {
                    ms += RETRY_MS / 2;
                    log.tick(Tick(ms)).unwrap();
                }
            }
            model.agrees(&log)?;
        }
    }
}
