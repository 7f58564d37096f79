//! What a room has decided to tell its shards and has not told them yet.

use std::collections::VecDeque;

use super::{Media, ShardHandle, ShardInput};
use moim_engine::ids::RoomId;

/// Orders in the sequence in which they were given, over all shards: a shard may name to
/// another what an earlier order made known there.
pub(super) struct Orders {
    media: Media,
    waiting: VecDeque<(usize, ShardInput)>,
}

impl Orders {
    pub(super) fn new(media: Media) -> Orders {
        Orders {
            media,
            waiting: VecDeque::new(),
        }
    }

    /// Queues an order to the shard with this index.
    pub(super) fn push(&mut self, shard: usize, input: ShardInput) {
        self.waiting.push_back((shard, input));
    }

    /// Hands over what the shards have space for now. True when nothing is left.
    pub(super) fn try_flush(&mut self) -> bool {
        let mut last = None;
        while let Some((index, input)) = self.waiting.pop_front() {
            let shard = &self.media.0.shards[index];
            if last.is_some_and(|last| last != index) {
                self.wake(last);
            }
            last = Some(index);
            let Some(space) = shard.inbox.try_reserve(&input) else {
                self.waiting.push_front((index, input));
                break;
            };
            shard.inbox.put(space, input);
        }
        self.wake(last);
        self.waiting.is_empty()
    }

    /// Hands everything over, and waits where a shard has no space. Nothing is lost when this
    /// is given up in between.
    pub(super) async fn flush(&mut self) {
        while !self.try_flush() {
            let Some((index, input)) = self.waiting.front() else {
                return;
            };
            let shard: ShardHandle = self.media.0.shards[*index].clone();
            let space = shard.inbox.reserve(input).await;
            if let Some((_, input)) = self.waiting.pop_front() {
                shard.inbox.put(space, input);
                (shard.wake)();
            }
        }
    }

    /// Gives up what waits and tells each of the shards that the room is over, without waiting:
    /// those that have heard of it end its connections.
    pub(super) fn close(&mut self, room: RoomId, shards: impl Iterator<Item = usize>) {
        let waiting = std::mem::take(&mut self.waiting);
        for index in shards {
            let mut unsaid = waiting.iter().filter(|(shard, _)| *shard == index);
            if unsaid.any(|(_, input)| matches!(input, ShardInput::OpenRoom(..))) {
                continue;
            }
            let shard = &self.media.0.shards[index];
            let close = ShardInput::CloseRoom(room);
            if let Some(space) = shard.inbox.try_reserve(&close) {
                shard.inbox.put(space, close);
                (shard.wake)();
            }
        }
    }

    fn wake(&self, shard: Option<usize>) {
        if let Some(index) = shard {
            (self.media.0.shards[index].wake)();
        }
    }
}
