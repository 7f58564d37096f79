//! The pool of workers behind a lock, with the way to each of them and the clock.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use moim_signaling::token::TokenIssuer;
use moim_signaling::wire::{AgentDispatch, Room, ServerMessage, server_message, worker_message};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::{Notify, mpsc};

use super::pool::{Action, Pool, WorkerKey};
use crate::room::{Fact, FactReader, Now};

/// Messages that wait for a worker; one that does not read them loses its connection.
const OUTBOX_CAPACITY: usize = 256;

/// The agents of a server.
#[derive(Clone)]
pub struct Agents(Arc<Shared>);

struct Shared {
    issuer: TokenIssuer,
    state: Mutex<State>,
    /// A deadline may have changed.
    changed: Notify,
}

struct State {
    pool: Pool,
    next: u64,
    outboxes: HashMap<WorkerKey, mpsc::Sender<ServerMessage>>,
}

impl Agents {
    /// A server without workers, and the task that looks after those that do not answer.
    pub fn start(issuer: TokenIssuer) -> Agents {
        let state = State {
            pool: Pool::new(StdRng::seed_from_u64(rand::random())),
            next: 0,
            outboxes: HashMap::new(),
        };
        let agents = Agents(Arc::new(Shared {
            issuer,
            state: Mutex::new(state),
            changed: Notify::new(),
        }));
        tokio::spawn(agents.clone().watch());
        agents
    }

    /// Wants agents in a room. `None` when there is no such room, or it has too many dispatches.
    pub fn dispatch(&self, room: &str, dispatch: AgentDispatch) -> Option<AgentDispatch> {
        self.change(|pool, now| pool.dispatch(now, room, dispatch))
    }

    /// Ends a dispatch and its jobs. `None` when there is none with this id.
    pub fn undispatch(&self, room: &str, id: &str) -> Option<AgentDispatch> {
        self.change(|pool, now| pool.undispatch(now, room, id))
    }

    /// The dispatches of a room, or the one with an id. `None` when there is no such room.
    pub fn dispatches(&self, room: &str, id: &str) -> Option<Vec<AgentDispatch>> {
        self.state().pool.dispatches(room, id)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        let state = self.0.state.lock();
        state.unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the pool, and does what comes of it.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Pool, Now) -> T) -> T {
        let mut state = self.state();
        let now = Now::read();
        let outcome = change(&mut state.pool, now);
        for action in state.pool.take_actions() {
            let (worker, message) = match action {
                Action::Send(worker, message) => (worker, *message),
                Action::Assign(worker, assignment) => {
                    let Some(signed) = assignment.sign(&self.0.issuer, now.unix_s()) else {
                        continue;
                    };
                    let message = server_message::Message::Assignment(signed);
                    let message = Some(message);
                    (worker, ServerMessage { message })
                }
            };
            let outbox = state.outboxes.get(&worker);
            // Without its outbox a worker's connection ends, and its jobs go to others.
            if outbox.is_some_and(|outbox| outbox.try_send(message).is_err()) {
                state.outboxes.remove(&worker);
            }
        }
        drop(state);
        self.0.changed.notify_one();
        outcome
    }

    /// A worker's connection is there; what it is sent comes out of the receiver.
    pub(super) fn connect(&self) -> (WorkerKey, mpsc::Receiver<ServerMessage>) {
        let (sender, receiver) = mpsc::channel(OUTBOX_CAPACITY);
        let mut state = self.state();
        let worker = WorkerKey(state.next);
        state.next += 1;
        state.outboxes.insert(worker, sender);
        (worker, receiver)
    }

    pub(super) fn disconnect(&self, worker: WorkerKey) {
        self.state().outboxes.remove(&worker);
        self.change(|pool, now| pool.unregister(now, worker));
    }

    /// A worker says something about itself or its jobs.
    pub(super) fn hear(&self, worker: WorkerKey, message: worker_message::Message) {
        use worker_message::Message;
        self.change(|pool, now| match message {
            Message::Availability(answer) => pool.answer(now, worker, answer),
            Message::UpdateWorker(update) => pool.update_worker(worker, &update),
            Message::UpdateJob(update) => pool.update_job(now, worker, &update),
            Message::Register(_)
            | Message::Ping(_)
            | Message::SimulateJob(_)
            | Message::MigrateJob(_) => {}
        });
    }

    async fn watch(self) {
        loop {
            let deadline = self.state().pool.deadline();
            tokio::select! {
                () = self.0.changed.notified() => {}
                () = until(deadline) => self.change(|pool, now| pool.handle_timeout(now)),
            }
        }
    }
}

impl FactReader for Agents {
    fn read(&self, room: &dyn Fn() -> Room, fact: &Fact) {
        if matches!(
            fact,
            Fact::Subscribed | Fact::Unsubscribed | Fact::ParticipantActive(_)
        ) {
            return;
        }
        let name = room().name;
        self.change(|pool, now| pool.read(now, &name, fact));
    }
}

async fn until(deadline: Option<std::time::Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
