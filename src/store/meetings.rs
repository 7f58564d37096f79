//! Facts of rooms, turned into the usage of meetings.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use moim_signaling::wire::Room;

use super::Store;
use super::usage::Attendance;
use crate::room::{Fact, FactReader, Now};

/// Reads the facts of all rooms for the store.
#[derive(Debug, Clone)]
pub struct Meetings {
    store: Store,
    stopping: Arc<AtomicBool>,
}

impl Meetings {
    /// Keeps them in this store.
    pub fn new(store: Store) -> Meetings {
        Meetings {
            store,
            stopping: Arc::default(),
        }
    }

    /// From now on rooms end because the server stops: they are there again at the next start.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }
}

impl FactReader for Meetings {
    fn read(&self, room: &dyn Fn() -> Room, fact: &Fact) {
        let at = Now::read().unix_ms();
        let attendance = match fact {
            Fact::RoomStarted { room, .. } => Attendance::Started {
                sid: room.sid.clone(),
                room: room.name.clone(),
                at,
            },
            Fact::RoomFinished(room) => {
                if !self.stopping.load(Ordering::Relaxed) {
                    self.store.forget_room(&room.name);
                }
                let sid = room.sid.clone();
                Attendance::Ended { sid, at }
            }
            Fact::ParticipantActive(participant) => Attendance::Joined {
                meeting: room().sid,
                participant: participant.sid.clone(),
                identity: participant.identity.clone(),
                at,
            },
            Fact::ParticipantLeft { participant, .. } => Attendance::Left {
                meeting: room().sid,
                participant: participant.sid.clone(),
                at,
            },
            _ => return,
        };
        self.store.attend(attendance);
    }
}
