//! What the operator is told of quotas.

use super::*;

fn create_with(path: &str, data: &str) -> WriteRequest {
    let WriteRequest::Create(plain) = create(path, false, 0) else {
        unreachable!("a create");
    };
    WriteRequest::Create(CreateRequest {
        data: Some(data.as_bytes().into()),
        ..plain
    })
}

#[test]
fn a_quota_that_is_exceeded_is_told_of_once_in_half_a_tick_time_however_often_somebody_asks() {
    let rules = Rules {
        enforce_quota: true,
        ..Rules::default()
    };
    let config = PipelineConfig {
        tick_time_ms: TICK_TIME,
        ..PipelineConfig::new(rules)
    };
    let mut w = World::with(config, Zxid::ZERO);
    let session = w.session(1, 60_000);
    for request in [
        create("/a", false, 0),
        create("/zookeeper/quota/a", false, 0),
        create_with("/zookeeper/quota/a/zookeeper_limits", "count=1,bytes=-1"),
        create_with("/zookeeper/quota/a/zookeeper_stats", ""),
    ] {
        w.write(1, session, request);
        w.settle();
    }
    assert_eq!(w.pipeline.take_over_quota(), None);
    let (mut told, begin) = (Vec::new(), w.now.tick.0);
    for look in 0..4 * TICK_TIME / 50 {
        w.write(1, session, create(&format!("/a/{look}"), false, 0));
        w.settle();
        w.now.tick = Tick(begin + 50 * look);
        w.pipeline.tick(w.now).unwrap();
        told.extend(w.pipeline.take_over_quota().map(|over| over.then));
    }
    // The last one of each half.
    let due: Vec<i64> = (0..8).map(|half| 2 + 10 * half).collect();
    assert_eq!(told, due);
}
