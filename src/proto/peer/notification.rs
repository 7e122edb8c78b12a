//! Frames of the election port and the notification in each (docs/peer-protocol.md §1.3–1.4):
//!
//! ```text
//! frame        = len i32 ‖ notification                                      1 ≤ len ≤ 512 KiB
//! notification = state i32 ‖ leader i64 ‖ zxid i64 ‖ round i64               28 bytes: the oldest
//!              ‖ epoch i64 ‖ format i32                                      40 bytes: 3.4
//!              ‖ configLen i32 ‖ config                                      44 + n bytes: since 3.5, and what we send
//! ```

use super::vote::{PeerState, Vote};
use crate::proto::{Frame, split_frame};
use crate::txn::jute::{JuteError, Put, Reader};
use crate::types::{Round, ServerId, VoteEpoch, Zxid};

/// The largest frame, bytes.
pub const FRAME_MAX: usize = 512 << 10;
/// Format of what we send: a configuration follows.
const FORMAT: i32 = 2;
/// Length of the oldest form, which has no epoch.
const OLDEST: usize = 28;
/// Length of 3.4's form; the number at its end is not a format.
const WITHOUT_FORMAT: usize = 40;

const _: () = assert!(WITHOUT_FORMAT == OLDEST + 8 + 4);

/// A vote and who it comes from can say, as of one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notification<'a> {
    /// What the sender is doing.
    pub state: PeerState,
    /// What it proposes, or what it has settled on.
    pub vote: Vote,
    /// The round in which it does, or in which that was settled.
    pub round: Round,
    /// 0 for members that do not send it.
    pub format: i32,
    /// Text of the sender's committed configuration.
    pub config: Option<&'a [u8]>,
}

/// Why a notification is skipped. The connection stays: the next one may be readable (I-23).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotificationError {
    /// It ends inside a field, or the configuration is longer than what is there.
    #[error(transparent)]
    Jute(#[from] JuteError),
    /// No state has this number.
    #[error("there is no state {0}")]
    State(i32),
}

/// Splits the first frame off; an empty one ends the connection like one that is too long.
pub fn split(input: &[u8]) -> Frame<'_> {
    match split_frame(input, FRAME_MAX) {
        Frame::Whole([], _) => Frame::Oversized,
        frame => frame,
    }
}

impl<'a> Notification<'a> {
    /// Reads a frame's payload, in each of the forms above.
    pub fn decode(payload: &'a [u8]) -> Result<Notification<'a>, NotificationError> {
        let mut r = Reader::new(payload);
        let state = r.i32()?;
        let leader = ServerId(r.i64()?);
        let zxid = Zxid(r.i64()?);
        let round = Round(r.i64()?);
        let epoch = match payload.len() {
            OLDEST => VoteEpoch(zxid.0 >> 32),
            _ => VoteEpoch(r.i64()?),
        };
        let format = match payload.len() {
            OLDEST | WITHOUT_FORMAT => 0,
            _ => r.i32()?,
        };
        let config = match format {
            ..FORMAT => None,
            // Null is a negative length here.
            _ => Some(r.buf()?.ok_or(JuteError::Length(-1))?),
        };
        Ok(Notification {
            state: PeerState::of(state).ok_or(NotificationError::State(state))?,
            vote: Vote {
                epoch,
                zxid,
                leader,
            },
            round,
            format,
            config,
        })
    }

    /// Appends a frame in the newest form, whatever `format` says: 3.4 reads the beginning of it.
    ///
    /// False, and nothing is appended, if the configuration makes it longer than [`FRAME_MAX`].
    #[must_use]
    pub fn encode_into(&self, out: &mut Vec<u8>) -> bool {
        let config = self.config.unwrap_or_default();
        if WITHOUT_FORMAT + 4 + config.len() > FRAME_MAX {
            return false;
        }
        out.put_sized(|out| {
            out.put_i32(self.state.number());
            out.put_i64(self.vote.leader.0);
            out.put_i64(self.vote.zxid.0);
            out.put_i64(self.round.0);
            out.put_i64(self.vote.epoch.0);
            out.put_i32(FORMAT);
            out.put_buf(Some(config));
        });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::txn::golden::hex;
    use proptest::option;
    use proptest::prelude::*;

    /// LOOKING, leader 2, zxid 0x300000007, round 5.
    const HEAD: &str = "00000000 0000000000000002 0000000300000007 0000000000000005";

    fn decode(text: &str) -> Result<(VoteEpoch, i32, Option<Vec<u8>>), NotificationError> {
        let bytes = hex(text);
        let n = Notification::decode(&bytes)?;
        assert_eq!(n.state, PeerState::Looking);
        assert_eq!(n.round, Round(5));
        assert_eq!((n.vote.leader, n.vote.zxid), (ServerId(2), Zxid::new(3, 7)));
        Ok((n.vote.epoch, n.format, n.config.map(<[u8]>::to_vec)))
    }

    #[test]
    fn every_form_that_apache_reads_is_read() {
        let short = Err(JuteError::Short.into());
        let with = |rest: &str| decode(&format!("{HEAD}{rest}"));
        let epoch = "0000000000000002";
        // The oldest has no epoch: the zxid's.
        assert_eq!(with(""), Ok((VoteEpoch(3), 0, None)));
        // What stands at the end of 3.4's is not read.
        for number in ["00000001", "00000002", "ffffffff"] {
            let due = Ok((VoteEpoch(2), 0, None));
            assert_eq!(with(&format!("{epoch}{number}")), due, "{number}");
        }
        for (rest, due) in [
            ("00000001 00", Ok((VoteEpoch(2), 1, None))),
            ("00000001 00000009", Ok((VoteEpoch(2), 1, None))),
            ("ffffffff 00000009", Ok((VoteEpoch(2), -1, None))),
            ("00000002 00000000", Ok((VoteEpoch(2), 2, Some(vec![])))),
            (
                "00000002 00000002 6162",
                Ok((VoteEpoch(2), 2, Some(b"ab".to_vec()))),
            ),
            // Something behind the configuration is no error, a newer format neither.
            (
                "00000003 00000002 616263",
                Ok((VoteEpoch(2), 3, Some(b"ab".to_vec()))),
            ),
            ("00000002 000000", short.clone()),
            ("00000002 00000003 6162", Err(JuteError::Length(3).into())),
            ("00000002 ffffffff 6162", Err(JuteError::Length(-1).into())),
            ("00000002 fffffffe 6162", Err(JuteError::Length(-2).into())),
            (
                "00000002 7fffffff 6162",
                Err(JuteError::Length(i32::MAX).into()),
            ),
        ] {
            assert_eq!(with(&format!("{epoch}{rest}")), due, "{rest}");
        }
    }

    // Known failure 3769: one malformed message made a server deaf to elections.
    #[test]
    fn what_ends_inside_a_field_is_an_error_and_nothing_else() {
        let whole = hex(&format!("{HEAD} 0000000000000002 00000002 00000002 6162"));
        for len in 0..whole.len() {
            let is_older_form = [28, 40].contains(&len);
            let outcome = Notification::decode(&whole[..len]);
            assert_eq!(outcome.is_ok(), is_older_form, "{len} bytes");
        }
        let mut state = whole;
        state[3] = 4;
        assert_eq!(
            Notification::decode(&state),
            Err(NotificationError::State(4))
        );
    }

    #[test]
    fn a_frame_is_one_byte_at_least_and_512_kib_at_most() {
        assert_eq!(split(&hex("000000")), Frame::Partial);
        assert_eq!(split(&hex("00000000")), Frame::Oversized);
        assert_eq!(split(&hex("ffffffff")), Frame::Oversized);
        assert_eq!(split(&hex("00000001 07")), Frame::Whole(&[7], 5));
        assert_eq!(split(&hex("00080000")), Frame::Partial);
        assert_eq!(split(&hex("00080001")), Frame::Oversized);
        let long = vec![b'a'; FRAME_MAX - 44];
        let mut n = Notification {
            state: PeerState::Looking,
            vote: Vote::NOBODY,
            round: Round(1),
            format: FORMAT,
            config: Some(&long),
        };
        let mut out = Vec::new();
        assert!(n.encode_into(&mut out));
        assert!(matches!(split(&out), Frame::Whole(_, used) if used == out.len()));
        let longer = vec![b'a'; FRAME_MAX - 43];
        n.config = Some(&longer);
        let before = out.len();
        assert!(!n.encode_into(&mut out));
        assert_eq!(out.len(), before);
    }

    fn any_state() -> impl Strategy<Value = PeerState> {
        (0..4).prop_map(|number| PeerState::of(number).unwrap())
    }

    proptest! {
        #[test]
        fn what_is_sent_is_read(
            state in any_state(),
            (epoch, zxid, leader, round) in any::<(i64, i64, i64, i64)>(),
            config in option::of(any::<Vec<u8>>()),
        ) {
            let n = Notification {
                state,
                vote: Vote { epoch: VoteEpoch(epoch), zxid: Zxid(zxid), leader: ServerId(leader) },
                round: Round(round),
                format: FORMAT,
                config: Some(config.as_deref().unwrap_or_default()),
            };
            let mut out = Vec::new();
            prop_assert!(n.encode_into(&mut out));
            let Frame::Whole(payload, used) = split(&out) else { panic!("a frame") };
            prop_assert_eq!(used, out.len());
            prop_assert_eq!(Notification::decode(payload), Ok(n));
        }

        #[test]
        fn no_bytes_panic(bytes in any::<Vec<u8>>()) {
            if let Frame::Whole(payload, used) = split(&bytes) {
                prop_assert!(used <= bytes.len() && !payload.is_empty());
            }
            let _ = Notification::decode(&bytes);
        }
    }
}
