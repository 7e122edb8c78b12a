//! The bytes of docs/peer-protocol.md §9.3, typed from there: what Apache's servers of 3.9 were seen to send.

use super::hello::{Address, Hello};
use super::learner::{Forwarded, LearnerInfo, ToLeader, ToLearner, Touched};
use super::notification::{self, Notification};
use super::packet::{Packet, PacketType, Split, split};
use super::vote::{PeerState, Vote};
use crate::proto::Frame;
use crate::txn::golden::{entries, hex};
use crate::types::{Epoch, OpCode, Round, ServerId, SessionId, VoteEpoch, Zxid};

const MAX: usize = 1 << 20;
const SESSION_A: SessionId = SessionId(0x0100_0010_e2f3_0000);
const THE_FOURTH: Zxid = Zxid(0x1_0000_0004);

fn packet(bytes: &[u8]) -> Packet<'_> {
    match split(bytes, MAX) {
        Ok(Split::Whole(packet, used)) if used == bytes.len() => packet,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn to_leader(text: &str, meaning: ToLeader<'_>) {
    let bytes = hex(text);
    assert_eq!(ToLeader::decode(&packet(&bytes)), Ok(meaning));
    let mut out = Vec::new();
    meaning.encode_into(&mut out);
    assert_eq!(out, bytes);
}

#[track_caller]
fn to_learner(text: &str, meaning: ToLearner<'_>) {
    let bytes = hex(text);
    assert_eq!(ToLearner::decode(&packet(&bytes)), Ok(meaning));
    let mut out = Vec::new();
    meaning.encode_into(&mut out);
    assert_eq!(out, bytes);
}

#[test]
fn golden_hello() {
    let bytes = hex("ffffffffffff000000000000000000020000000e3132372e302e302e313a33383832");
    let address = Address::new("127.0.0.1", 3882).unwrap();
    let hello = Hello {
        sid: ServerId(2),
        addresses: vec![address.clone()],
    };
    assert_eq!(Hello::split(&bytes), Ok(Some((hello, bytes.len()))));
    assert_eq!(Hello::encode(ServerId(2), &[address], false), Some(bytes));
}

#[test]
fn golden_notification() {
    let head = hex(
        "000000dd00000000000000000000000200000000000000000000000000000001000000000000000000000002000000b1",
    );
    // The text is longer than the specification prints; its length is in the head.
    let config = [b'c'; 0xb1];
    let n = Notification {
        state: PeerState::Looking,
        vote: Vote {
            epoch: VoteEpoch(0),
            zxid: Zxid::ZERO,
            leader: ServerId(2),
        },
        round: Round(1),
        format: 2,
        config: Some(&config),
    };
    let mut out = Vec::new();
    assert!(n.encode_into(&mut out));
    assert_eq!(out, [&head[..], &config].concat());
    let Frame::Whole(payload, used) = notification::split(&out) else {
        panic!("a frame");
    };
    assert_eq!((Notification::decode(payload), used), (Ok(n), out.len()));
}

#[test]
fn golden_handshake_of_a_learner() {
    to_leader(
        "0000000b0000000000000000000000140000000000000001000100000000000000000000ffffffff",
        ToLeader::Info {
            is_observer: false,
            accepted: Epoch(0),
            info: LearnerInfo {
                sid: ServerId(1),
                config_version: Some(Zxid::ZERO),
                capabilities: None,
            },
        },
    );
    to_learner(
        "0000001100000001000000000000000400010000ffffffff",
        ToLearner::LeaderInfo {
            epoch: Epoch(1),
            capabilities: None,
        },
    );
    to_leader(
        "0000001200000000000000000000000400000000ffffffff",
        ToLeader::AckEpoch {
            last: Zxid::ZERO,
            current: Some(Epoch(0)),
        },
    );
    to_leader(
        "00000012000000000000000000000004ffffffffffffffff",
        ToLeader::AckEpoch {
            last: Zxid::ZERO,
            current: None,
        },
    );
}

#[test]
fn golden_synchronisation() {
    to_learner(
        "0000000d0000000000000000ffffffffffffffff",
        ToLearner::Diff(Zxid::ZERO),
    );
    let config = "63".repeat(0xb1);
    to_learner(
        &format!("0000000a0000000100000000000000b1{config}ffffffff"),
        ToLearner::NewLeader {
            zxid: Zxid::new(1, 0),
            config: Some(&[b'c'; 0xb1]),
        },
    );
    to_leader(
        "000000030000000100000000ffffffffffffffff",
        ToLeader::Ack(Zxid::new(1, 0)),
    );
    to_learner(
        "0000000cffffffffffffffffffffffffffffffff",
        ToLearner::UpToDate,
    );
}

#[test]
fn golden_broadcast() {
    to_leader(
        "000000030000000100000004ffffffffffffffff",
        ToLeader::Ack(THE_FOURTH),
    );
    to_learner(
        "000000040000000100000004ffffffffffffffff",
        ToLearner::Commit(THE_FOURTH),
    );
    to_learner(
        "000000090000000100000021000000080000000000000002ffffffff",
        ToLearner::CommitAndActivate {
            zxid: Zxid::new(1, 0x21),
            leader: ServerId(2),
        },
    );
    // The specification prints entries, not the packets around them.
    for (entry, counter) in entries().iter().zip(1..) {
        let zxid = Zxid::new(1, counter);
        let text: String = entry.iter().map(|byte| format!("{byte:02x}")).collect();
        let data = format!("{:016x}{:08x}{text}ffffffff", zxid.0, entry.len());
        to_learner(
            &format!("00000002{data}"),
            ToLearner::Proposal { zxid, entry },
        );
        to_learner(
            &format!("00000008{data}"),
            ToLearner::Inform { zxid, entry },
        );
        let data = format!(
            "{:016x}{:08x}{:016x}{text}ffffffff",
            zxid.0,
            entry.len() + 8,
            2
        );
        let leader = ServerId(2);
        let inform = ToLearner::InformAndActivate {
            zxid,
            leader,
            entry,
        };
        to_learner(&format!("00000013{data}"), inform);
    }
}

#[test]
fn golden_pings_and_sessions() {
    to_learner(
        "000000050000000100000004ffffffffffffffff",
        ToLearner::Ping(THE_FOURTH),
    );
    to_leader(
        "00000005000000010000000400000000ffffffff",
        ToLeader::Ping {
            zxid: THE_FOURTH,
            touched: Touched::of(&[]).unwrap(),
        },
    );
    let mut data = Vec::new();
    Touched::put(&mut data, SESSION_A, 10_000);
    let touched = Touched::of(&data).unwrap();
    assert!(touched.iter().eq([(SESSION_A, 10_000)]));
    to_leader(
        "0000000500000001000000040000000c01000010e2f3000000002710ffffffff",
        ToLeader::Ping {
            zxid: THE_FOURTH,
            touched,
        },
    );
    let session = SessionId(0x0400_0010_e3a7_0000);
    to_leader(
        "00000006ffffffffffffffff0000000c04000010e3a7000000002710ffffffff",
        ToLeader::Revalidate {
            session,
            timeout_ms: 10_000,
        },
    );
    to_learner(
        "00000006ffffffffffffffff0000000904000010e3a7000001ffffffff",
        ToLearner::Revalidate {
            session,
            is_valid: true,
        },
    );
    to_learner("000000070000000000000000ffffffffffffffff", ToLearner::Sync);
}

#[test]
fn golden_requests() {
    let request = |cxid, op, body| Forwarded {
        session: SESSION_A,
        cxid,
        op,
        body,
        ids: None,
    };
    let timeout = 10_000i32.to_be_bytes();
    to_leader(
        "00000001ffffffffffffffff0000001401000010e2f3000000000000fffffff600002710ffffffff",
        ToLeader::Request(request(0, OpCode::CREATE_SESSION, &timeout)),
    );
    to_leader(
        "00000001ffffffffffffffff0000001001000010e2f3000000000012fffffff5ffffffff",
        ToLeader::Request(request(18, OpCode::CLOSE_SESSION, &[])),
    );
    let create = hex(
        "00000001ffffffffffffffff0000003e01000010e2f300000000000100000001000000022f610000000568656c6c6f000000010000001f00000005776f726c6400000006616e796f6e650000000000000001000000026970000000093132372e302e302e31",
    );
    let packet = packet(&create);
    assert_eq!(packet.kind, PacketType::REQUEST);
    let Ok(ToLeader::Request(read)) = ToLeader::decode(&packet) else {
        panic!("a request");
    };
    assert_eq!(
        (read.session, read.cxid, read.op),
        (SESSION_A, 1, OpCode::CREATE)
    );
    assert_eq!(read.body, &create[32..create.len() - 23]);
    let ids = read.ids.unwrap();
    assert!(ids.iter().eq([(Some(&b"ip"[..]), Some(&b"127.0.0.1"[..]))]));
    let mut out = Vec::new();
    ToLeader::Request(read).encode_into(&mut out);
    assert_eq!(out, create);
}
