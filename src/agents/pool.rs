//! The workers of agents, the dispatches of rooms and the jobs that come of both. A value without
//! I/O and clock: it takes what workers say, what happens in rooms and the time, and gives
//! [`Action`]s.
//!
//! A dispatch says that agents of some name are wanted in a room. For each namespace in which
//! there are workers of that name, one of them gets a job: for the room, for each participant, or
//! for each publisher, as the workers registered. A worker is asked first, the one with the least
//! load; when it does not want the job, the next one is.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

use moim_signaling::wire::{
    self, AgentDispatch, AgentDispatchState, AvailabilityRequest, AvailabilityResponse, Job,
    JobState, JobStatus, JobTermination, JobType, ParticipantInfo, RegisterWorkerRequest,
    RoomAgentDispatch, ServerMessage, UpdateJobStatus, UpdateWorkerStatus, WorkerStatus,
    participant_info, server_message,
};
use rand::distr::{Alphanumeric, SampleString};
use rand::rngs::StdRng;

use super::assignment::Assignment;
use crate::room::{Fact, Now};

/// A worker answers whether it takes a job within this time. LiveKit's value.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Workers at a time.
const MAX_WORKERS: usize = 1_000;
/// Jobs at a time, running ones included.
const MAX_JOBS: usize = 50_000;
/// Dispatches of one room.
const MAX_DISPATCHES: usize = 64;
/// Jobs that a dispatch tells of, the latest.
const MAX_REMEMBERED: usize = 256;
/// Characters of an id after its prefix.
const ID_LEN: usize = 12;

/// A worker's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct WorkerKey(pub(super) u64);

/// What is to be done.
#[derive(Debug)]
pub(super) enum Action {
    /// A worker is told something.
    Send(WorkerKey, Box<ServerMessage>),
    /// A worker gets a job, with a token for the room.
    Assign(WorkerKey, Box<Assignment>),
}

/// Which workers can stand in for each other.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Skill {
    agent_name: String,
    job_type: JobType,
    deployment: String,
}

#[derive(Debug)]
struct Worker {
    id: String,
    skill: Skill,
    namespace: String,
    registration: RegisterWorkerRequest,
    api_key: String,
    load: f32,
    status: WorkerStatus,
}

#[derive(Debug)]
struct RoomAgents {
    room: wire::Room,
    dispatches: Vec<AgentDispatch>,
    /// Identities of the participants that are neither agents nor recorders.
    participants: BTreeMap<String, ParticipantInfo>,
    publishers: HashSet<String>,
}

/// Where a job stands.
#[derive(Debug)]
enum Stage {
    /// A worker is asked.
    Asked { worker: WorkerKey, due: Instant },
    /// A worker has it.
    Running { worker: WorkerKey },
}

#[derive(Debug)]
struct JobEntry {
    job: Job,
    skill: Skill,
    namespace: String,
    attempted: BTreeSet<WorkerKey>,
    stage: Option<Stage>,
}

/// All workers, dispatches and jobs.
pub(super) struct Pool {
    rng: StdRng,
    workers: BTreeMap<WorkerKey, Worker>,
    rooms: HashMap<String, RoomAgents>,
    jobs: BTreeMap<String, JobEntry>,
    actions: Vec<Action>,
}

impl Pool {
    pub(super) fn new(rng: StdRng) -> Pool {
        Pool {
            rng,
            workers: BTreeMap::new(),
            rooms: HashMap::new(),
            jobs: BTreeMap::new(),
            actions: Vec::new(),
        }
    }

    /// What is to be done since the last time.
    pub(super) fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    fn id(&mut self, prefix: &str) -> String {
        format!(
            "{prefix}{}",
            Alphanumeric.sample_string(&mut self.rng, ID_LEN)
        )
    }

    // Workers

    /// A worker says who it is. Gives its id; `None` when it is not taken.
    pub(super) fn register(
        &mut self,
        worker: WorkerKey,
        api_key: &str,
        registration: RegisterWorkerRequest,
    ) -> Option<String> {
        if self.workers.len() >= MAX_WORKERS || self.workers.contains_key(&worker) {
            return None;
        }
        let job_type = JobType::try_from(registration.r#type).ok()?;
        let id = self.id("AW_");
        let registered = Worker {
            id: id.clone(),
            skill: Skill {
                agent_name: registration.agent_name.clone(),
                job_type,
                deployment: registration.deployment.clone(),
            },
            namespace: registration.namespace.clone().unwrap_or_default(),
            registration,
            api_key: api_key.to_owned(),
            load: 0.0,
            status: WorkerStatus::WsAvailable,
        };
        self.workers.insert(worker, registered);
        Some(id)
    }

    /// A worker's connection has ended: what it was asked goes to another one.
    pub(super) fn unregister(&mut self, now: Now, worker: WorkerKey) {
        self.workers.remove(&worker);
        let of_worker = |entry: &JobEntry| match entry.stage {
            Some(Stage::Asked { worker: asked, .. }) => asked == worker,
            Some(Stage::Running { worker: runs }) => runs == worker,
            None => false,
        };
        let jobs = self.jobs.iter().filter(|(_, entry)| of_worker(entry));
        let jobs: Vec<String> = jobs.map(|(id, _)| id.clone()).collect();
        for id in jobs {
            let runs = self
                .jobs
                .get(&id)
                .is_some_and(|entry| matches!(entry.stage, Some(Stage::Running { .. })));
            if runs {
                let error = "the worker's connection has ended";
                self.end_job(now, &id, JobStatus::JsFailed, error);
            } else {
                self.ask(now, &id);
            }
        }
    }

    /// A worker says how busy it is.
    pub(super) fn update_worker(&mut self, worker: WorkerKey, update: &UpdateWorkerStatus) {
        if let Some(worker) = self.workers.get_mut(&worker) {
            worker.load = if update.load.is_finite() {
                update.load
            } else {
                1.0
            };
            if let Some(status) = update.status {
                worker.status = WorkerStatus::try_from(status).unwrap_or(WorkerStatus::WsFull);
            }
        }
    }

    /// A worker answers whether it takes a job.
    pub(super) fn answer(&mut self, now: Now, worker: WorkerKey, answer: AvailabilityResponse) {
        let id = answer.job_id.clone();
        let Some(entry) = self.jobs.get_mut(&id) else {
            return;
        };
        let is_asked =
            matches!(entry.stage, Some(Stage::Asked { worker: asked, .. }) if asked == worker);
        let Some(taker) = self.workers.get(&worker).filter(|_| is_asked) else {
            return;
        };
        if answer.terminate {
            self.end_job(now, &id, JobStatus::JsSuccess, "");
        } else if answer.available {
            entry.stage = Some(Stage::Running { worker });
            if let Some(state) = &mut entry.job.state {
                state
                    .participant_identity
                    .clone_from(&answer.participant_identity);
            }
            let job = entry.job.clone();
            let assignment = Assignment {
                api_key: taker.api_key.clone(),
                registration: taker.registration.clone(),
                answer,
                job: job.clone(),
            };
            self.actions
                .push(Action::Assign(worker, Box::new(assignment)));
            if let Some(jobs) = self.jobs_of_dispatch(&job) {
                if jobs.len() >= MAX_REMEMBERED {
                    jobs.remove(0);
                }
                jobs.push(job);
            }
        } else {
            self.ask(now, &id);
        }
    }

    /// A worker says how a job goes.
    pub(super) fn update_job(&mut self, now: Now, worker: WorkerKey, update: &UpdateJobStatus) {
        let status = JobStatus::try_from(update.status).unwrap_or(JobStatus::JsFailed);
        let is_own = self.jobs.get(&update.job_id).is_some_and(
            |entry| matches!(entry.stage, Some(Stage::Running { worker: runs }) if runs == worker),
        );
        if is_own && matches!(status, JobStatus::JsSuccess | JobStatus::JsFailed) {
            let error: String = update.error.chars().take(1_024).collect();
            self.end_job(now, &update.job_id, status, &error);
        }
    }

    // Rooms

    /// Something happened in a room.
    pub(super) fn read(&mut self, now: Now, room: &str, fact: &Fact) {
        match fact {
            Fact::RoomStarted { room, agents } => self.room_started(now, room, agents),
            Fact::RoomFinished(_) => {
                self.rooms.remove(room);
                self.end_jobs(now, |job| {
                    job.room.as_ref().is_some_and(|of| of.name == room)
                });
            }
            Fact::ParticipantJoined(participant) if !is_dependent(participant) => {
                if let Some(agents) = self.rooms.get_mut(room) {
                    let identity = participant.identity.clone();
                    agents
                        .participants
                        .insert(identity, (**participant).clone());
                }
                self.launch_all(now, room, JobType::JtParticipant, participant);
            }
            Fact::TrackPublished { participant, .. } if !is_dependent(participant) => {
                let agents = self.rooms.get_mut(room);
                let identity = participant.identity.clone();
                if agents.is_some_and(|agents| agents.publishers.insert(identity)) {
                    self.launch_all(now, room, JobType::JtPublisher, participant);
                }
            }
            Fact::ParticipantLeft { participant, .. } => {
                let identity = &participant.identity;
                if let Some(agents) = self.rooms.get_mut(room) {
                    agents.participants.remove(identity);
                    agents.publishers.remove(identity);
                }
                self.end_jobs(now, |job| {
                    let of = job.state.as_ref().map(|state| &state.participant_identity);
                    job.room.as_ref().is_some_and(|of| of.name == room)
                        && of == Some(identity)
                        && !identity.is_empty()
                });
            }
            _ => {}
        }
    }

    fn room_started(&mut self, now: Now, room: &wire::Room, wanted: &[RoomAgentDispatch]) {
        let agents = RoomAgents {
            room: room.clone(),
            dispatches: Vec::new(),
            participants: BTreeMap::new(),
            publishers: HashSet::new(),
        };
        self.rooms.insert(room.name.clone(), agents);
        // Workers without a name are wanted everywhere.
        let everywhere = [RoomAgentDispatch::default()];
        let wanted = if wanted.is_empty() {
            &everywhere
        } else {
            wanted
        };
        for wanted in wanted {
            let dispatch = AgentDispatch {
                agent_name: wanted.agent_name.clone(),
                metadata: wanted.metadata.clone(),
                restart_policy: wanted.restart_policy,
                deployment: wanted.deployment.clone(),
                attributes: wanted.attributes.clone(),
                ..Default::default()
            };
            let _ = self.dispatch(now, &room.name, dispatch);
        }
    }

    /// Agents are wanted in a room. Gives the dispatch with its id; `None` when there is no such
    /// room, or it has too many already.
    pub(super) fn dispatch(
        &mut self,
        now: Now,
        room: &str,
        mut dispatch: AgentDispatch,
    ) -> Option<AgentDispatch> {
        dispatch.id = self.id("AD_");
        room.clone_into(&mut dispatch.room);
        dispatch.state = Some(AgentDispatchState {
            created_at: now.unix_ns(),
            ..Default::default()
        });
        let agents = self.rooms.get_mut(room)?;
        if agents.dispatches.len() >= MAX_DISPATCHES {
            return None;
        }
        agents.dispatches.push(dispatch.clone());
        let publishers = agents.publishers.clone();
        let participants: Vec<ParticipantInfo> = agents.participants.values().cloned().collect();
        self.launch(now, room, &dispatch, JobType::JtRoom, None);
        for participant in &participants {
            let kinds = [JobType::JtParticipant, JobType::JtPublisher];
            let publishes = publishers.contains(&participant.identity);
            for kind in kinds.into_iter().take(1 + usize::from(publishes)) {
                self.launch(now, room, &dispatch, kind, Some(participant));
            }
        }
        Some(dispatch)
    }

    /// Agents are not wanted any more: their jobs end.
    pub(super) fn undispatch(&mut self, now: Now, room: &str, id: &str) -> Option<AgentDispatch> {
        let agents = self.rooms.get_mut(room)?;
        let index = agents.dispatches.iter().position(|known| known.id == id)?;
        let mut dispatch = agents.dispatches.remove(index);
        if let Some(state) = &mut dispatch.state {
            state.deleted_at = now.unix_ns();
        }
        self.end_jobs(now, |job| job.dispatch_id == id);
        Some(dispatch)
    }

    /// The dispatches of a room, or the one with an id. `None` when there is no such room.
    pub(super) fn dispatches(&self, room: &str, id: &str) -> Option<Vec<AgentDispatch>> {
        let dispatches = self.rooms.get(room)?.dispatches.iter();
        let named = dispatches.filter(|dispatch| id.is_empty() || dispatch.id == id);
        Some(named.cloned().collect())
    }

    // Jobs

    fn launch_all(&mut self, now: Now, room: &str, kind: JobType, participant: &ParticipantInfo) {
        let dispatches = self.rooms.get(room).map(|room| room.dispatches.clone());
        for dispatch in dispatches.unwrap_or_default() {
            self.launch(now, room, &dispatch, kind, Some(participant));
        }
    }

    /// Makes a job for each namespace in which there are workers for it.
    fn launch(
        &mut self,
        now: Now,
        room: &str,
        dispatch: &AgentDispatch,
        job_type: JobType,
        participant: Option<&ParticipantInfo>,
    ) {
        let skill = Skill {
            agent_name: dispatch.agent_name.clone(),
            job_type,
            deployment: dispatch.deployment.clone(),
        };
        let able = self.workers.values().filter(|worker| worker.skill == skill);
        let namespaces: BTreeSet<String> = able.map(|worker| worker.namespace.clone()).collect();
        let described = self.rooms.get(room).map(|room| room.room.clone());
        for namespace in namespaces {
            if self.jobs.len() >= MAX_JOBS {
                tracing::warn!(room, "an agent was not sent: there are too many jobs");
                return;
            }
            let id = self.id("AJ_");
            #[allow(deprecated)]
            let job = Job {
                id: id.clone(),
                dispatch_id: dispatch.id.clone(),
                r#type: job_type as i32,
                room: described.clone(),
                participant: participant.cloned(),
                namespace: namespace.clone(),
                metadata: dispatch.metadata.clone(),
                agent_name: dispatch.agent_name.clone(),
                deployment: dispatch.deployment.clone(),
                attributes: dispatch.attributes.clone(),
                ..Default::default()
            };
            let entry = JobEntry {
                job,
                skill: skill.clone(),
                namespace,
                attempted: BTreeSet::new(),
                stage: None,
            };
            self.jobs.insert(id.clone(), entry);
            self.ask(now, &id);
        }
    }

    /// Asks the next worker whether it takes a job; without one the job is given up.
    fn ask(&mut self, now: Now, id: &str) {
        let Some(entry) = self.jobs.get_mut(id) else {
            return;
        };
        let able = self.workers.iter().filter(|(key, worker)| {
            worker.skill == entry.skill
                && worker.namespace == entry.namespace
                && worker.status == WorkerStatus::WsAvailable
                && !entry.attempted.contains(*key)
        });
        let least = able.min_by(|(_, a), (_, b)| a.load.total_cmp(&b.load));
        let Some((key, worker)) = least else {
            tracing::info!(job = id, "no worker takes the job");
            self.jobs.remove(id);
            return;
        };
        entry.attempted.insert(*key);
        entry.stage = Some(Stage::Asked {
            worker: *key,
            due: now.instant + ANSWER_TIMEOUT,
        });
        entry.job.state = Some(JobState {
            status: JobStatus::JsRunning as i32,
            started_at: now.unix_ns(),
            updated_at: now.unix_ns(),
            worker_id: worker.id.clone(),
            ..Default::default()
        });
        let request = AvailabilityRequest {
            job: Some(entry.job.clone()),
            resuming: false,
        };
        let message = server_message::Message::Availability(request);
        self.actions.push(send(*key, message));
    }

    /// When [`Pool::handle_timeout`] is to be called.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let due = self.jobs.values().filter_map(|entry| match entry.stage {
            Some(Stage::Asked { due, .. }) => Some(due),
            _ => None,
        });
        due.min()
    }

    /// Workers that did not answer in time are not waited for.
    pub(super) fn handle_timeout(&mut self, now: Now) {
        let is_due = |entry: &JobEntry| match entry.stage {
            Some(Stage::Asked { due, .. }) => due <= now.instant,
            _ => false,
        };
        let due = self.jobs.iter().filter(|(_, entry)| is_due(entry));
        let due: Vec<String> = due.map(|(id, _)| id.clone()).collect();
        for id in due {
            self.ask(now, &id);
        }
    }

    fn jobs_of_dispatch(&mut self, job: &Job) -> Option<&mut Vec<Job>> {
        let room = self.rooms.get_mut(&job.room.as_ref()?.name)?;
        let mut dispatches = room.dispatches.iter_mut();
        let dispatch = dispatches.find(|dispatch| dispatch.id == job.dispatch_id)?;
        Some(&mut dispatch.state.as_mut()?.jobs)
    }

    /// A job is over: its dispatch says how.
    fn end_job(&mut self, now: Now, id: &str, status: JobStatus, error: &str) {
        let Some(entry) = self.jobs.remove(id) else {
            return;
        };
        let jobs = self.jobs_of_dispatch(&entry.job);
        let known = jobs.and_then(|jobs| jobs.iter_mut().find(|job| job.id == id));
        if let Some(state) = known.and_then(|job| job.state.as_mut()) {
            state.status = status as i32;
            error.clone_into(&mut state.error);
            state.ended_at = now.unix_ns();
            state.updated_at = state.ended_at;
        }
    }

    /// Ends the jobs for which that is so; their workers are told.
    fn end_jobs(&mut self, now: Now, which: impl Fn(&Job) -> bool) {
        let ended = self.jobs.values().filter(|entry| which(&entry.job));
        let ended: Vec<String> = ended.map(|entry| entry.job.id.clone()).collect();
        for id in ended {
            let stage = self.jobs.get(&id).and_then(|entry| entry.stage.as_ref());
            if let Some(Stage::Running { worker }) = stage {
                let termination = JobTermination { job_id: id.clone() };
                let message = server_message::Message::Termination(termination);
                self.actions.push(send(*worker, message));
            }
            self.end_job(now, &id, JobStatus::JsSuccess, "");
        }
    }
}

fn send(worker: WorkerKey, message: server_message::Message) -> Action {
    let message = ServerMessage {
        message: Some(message),
    };
    Action::Send(worker, Box::new(message))
}

/// Agents and recorders are there for others, and get no agents themselves.
fn is_dependent(participant: &ParticipantInfo) -> bool {
    use participant_info::Kind;
    let by_kind = matches!(participant.kind(), Kind::Agent | Kind::Egress);
    #[allow(deprecated)]
    let by_grant = |is: &wire::ParticipantPermission| is.agent || is.recorder;
    by_kind || participant.permission.as_ref().is_some_and(by_grant)
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
