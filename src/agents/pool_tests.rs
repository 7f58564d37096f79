//! Whatever workers do and rooms come to, each job is one worker's, and nothing is left behind.

use rand::{RngExt, SeedableRng};

use super::*;

const ROOMS: [&str; 3] = ["a", "b", "c"];

fn now() -> Now {
    Now {
        instant: Instant::now(),
        unix_us: 1_700_000_000_000_000,
    }
}

fn room(name: &str) -> Box<wire::Room> {
    Box::new(wire::Room {
        name: name.into(),
        ..Default::default()
    })
}

fn started(name: &str, agents: Vec<RoomAgentDispatch>) -> Fact {
    let room = room(name);
    Fact::RoomStarted { room, agents }
}

fn joined(identity: &str) -> Fact {
    Fact::ParticipantJoined(Box::new(ParticipantInfo {
        identity: identity.into(),
        ..Default::default()
    }))
}

fn left(identity: &str) -> Fact {
    Fact::ParticipantLeft {
        participant: Box::new(ParticipantInfo {
            identity: identity.into(),
            ..Default::default()
        }),
        reason: wire::DisconnectReason::ClientInitiated,
    }
}

fn worker(kind: JobType, namespace: &str) -> RegisterWorkerRequest {
    RegisterWorkerRequest {
        r#type: kind as i32,
        namespace: Some(namespace.into()),
        ..Default::default()
    }
}

fn pool() -> Pool {
    Pool::new(StdRng::seed_from_u64(1))
}

/// Whom a pool asks, for which jobs.
fn asked(pool: &mut Pool) -> Vec<(WorkerKey, String)> {
    let actions = pool.take_actions().into_iter();
    let asked = actions.filter_map(|action| match action {
        Action::Send(worker, message) => match message.message? {
            server_message::Message::Availability(request) => Some((worker, request.job?.id)),
            _ => None,
        },
        Action::Assign(..) => None,
    });
    asked.collect()
}

fn takes(job: &str, available: bool) -> AvailabilityResponse {
    AvailabilityResponse {
        job_id: job.into(),
        available,
        participant_identity: format!("agent-{job}"),
        ..Default::default()
    }
}

#[test]
fn the_least_loaded_worker_is_asked_first_and_then_the_others() {
    let (mut pool, now) = (pool(), now());
    for (key, load) in [(1, 0.8), (2, 0.1), (3, 0.5)] {
        let key = WorkerKey(key);
        pool.register(key, "k", worker(JobType::JtRoom, ""))
            .unwrap();
        let update = UpdateWorkerStatus {
            load,
            ..Default::default()
        };
        pool.update_worker(key, &update);
    }
    pool.read(now, "a", &started("a", Vec::new()));
    let (first, job) = asked(&mut pool).remove(0);
    assert_eq!(first, WorkerKey(2));
    pool.answer(now, WorkerKey(1), takes(&job, true));
    assert!(pool.take_actions().is_empty());
    pool.answer(now, first, takes(&job, false));
    assert_eq!(asked(&mut pool), [(WorkerKey(3), job.clone())]);
    let late = now.after(ANSWER_TIMEOUT);
    assert_eq!(pool.deadline(), Some(late.instant));
    pool.handle_timeout(late);
    assert_eq!(asked(&mut pool), [(WorkerKey(1), job.clone())]);
    pool.answer(late, WorkerKey(1), takes(&job, true));
    let actions = pool.take_actions();
    assert!(matches!(&actions[..], [Action::Assign(WorkerKey(1), _)]));
    let dispatches = pool.dispatches("a", "").unwrap();
    assert_eq!(dispatches[0].state.as_ref().unwrap().jobs[0].id, job);
}

#[test]
fn each_namespace_gets_a_job_and_named_agents_only_where_they_are_wanted() {
    let (mut pool, now) = (pool(), now());
    let mut named = worker(JobType::JtRoom, "");
    named.agent_name = "scribe".into();
    pool.register(WorkerKey(1), "k", named).unwrap();
    for (key, namespace) in [(2, "x"), (3, "y"), (4, "y")] {
        let registration = worker(JobType::JtParticipant, namespace);
        pool.register(WorkerKey(key), "k", registration).unwrap();
    }
    pool.read(now, "a", &started("a", Vec::new()));
    assert!(asked(&mut pool).is_empty());
    pool.read(now, "a", &joined("alice"));
    let mut workers: Vec<u64> = asked(&mut pool).iter().map(|(key, _)| key.0).collect();
    workers.sort_unstable();
    assert_eq!(workers, [2, 3]);
    let wanted = RoomAgentDispatch {
        agent_name: "scribe".into(),
        ..Default::default()
    };
    pool.read(now, "b", &started("b", vec![wanted]));
    assert_eq!(asked(&mut pool)[0].0, WorkerKey(1));
}

#[test]
fn random_meetings_leave_nothing_behind() {
    for seed in 0..200 {
        let mut rng = StdRng::seed_from_u64(seed);
        let (mut pool, mut now) = (pool(), now());
        let mut running: BTreeMap<String, WorkerKey> = BTreeMap::new();
        let mut asked: Vec<(WorkerKey, String)> = Vec::new();
        for step in 0..300_u64 {
            let name = ROOMS[rng.random_range(0..ROOMS.len())];
            let identity = rng.random_range(0..5).to_string();
            let key = WorkerKey(rng.random_range(0..6));
            match rng.random_range(0..9) {
                0 if pool.dispatches(name, "").is_none() => {
                    pool.read(now, name, &started(name, Vec::new()));
                }
                0 | 1 => pool.read(now, name, &joined(&identity)),
                2 => pool.read(now, name, &left(&identity)),
                3 if rng.random_bool(0.3) => {
                    pool.read(now, name, &Fact::RoomFinished(room(name)));
                }
                4 => {
                    let kind = JobType::try_from(rng.random_range(0..3)).unwrap();
                    let _ = pool.register(key, "k", worker(kind, "x"));
                }
                5 if rng.random_bool(0.5) => {
                    running.retain(|_, runs| *runs != key);
                    pool.unregister(now, key);
                }
                6 | 7 if !asked.is_empty() => {
                    let (worker, job) = asked.swap_remove(rng.random_range(0..asked.len()));
                    pool.answer(now, worker, takes(&job, rng.random_bool(0.6)));
                }
                8 => {
                    now = now.after(Duration::from_secs(rng.random_range(0..15)));
                    pool.handle_timeout(now);
                }
                _ => {}
            }
            for action in pool.take_actions() {
                match action {
                    Action::Assign(worker, assignment) => {
                        let before = running.insert(assignment.job.id.clone(), worker);
                        assert_eq!(
                            before, None,
                            "seed {seed}, step {step}: two workers have it"
                        );
                    }
                    Action::Send(worker, message) => match message.message {
                        Some(server_message::Message::Availability(request)) => {
                            asked.push((worker, request.job.unwrap().id));
                        }
                        Some(server_message::Message::Termination(ended)) => {
                            let runs = running.remove(&ended.job_id);
                            assert_eq!(runs, Some(worker), "seed {seed}, step {step}");
                        }
                        _ => {}
                    },
                }
            }
        }
        for name in ROOMS {
            pool.read(now, name, &Fact::RoomFinished(room(name)));
        }
        assert!(pool.jobs.is_empty() && pool.rooms.is_empty(), "seed {seed}");
    }
}
