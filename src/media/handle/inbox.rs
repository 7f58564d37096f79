//! The orders that wait for one shard: a queue that is bounded in bytes and that nobody ever
//! blocks on.
//!
//! A room's task awaits space in it; the shard's thread takes orders out without waiting. The
//! queue itself has no bound of its own: whoever puts an order in has taken its bytes out of a
//! semaphore before, and the shard gives them back when it takes the order.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use tokio::sync::{Semaphore, SemaphorePermit};

use super::events::EventSender;
use moim_engine::command::Command;
use moim_engine::ids::RoomId;

/// What a shard is told by the control plane.
#[derive(Debug)]
pub enum ShardInput {
    /// An order to the shard's engine.
    Command(Command),
    /// Events of this room go there from now on.
    OpenRoom(RoomId, EventSender),
    /// The room is over, and with it whatever it still has on the shard.
    CloseRoom(RoomId),
}

/// Bytes of orders that wait for a shard. A shard takes all of them every few milliseconds, so
/// this is far more than waits while it is well; it is what a shard that stalls may cost.
const CAPACITY: u32 = 4 << 20;
/// What an order takes in the queue apart from what it points to.
const ENTRY: usize = size_of::<ShardInput>();

impl ShardInput {
    /// Bytes that it takes in the queue. Never more than the queue has, so that the largest
    /// order finds space in an empty queue.
    fn cost(&self) -> u32 {
        match self {
            ShardInput::Command(command) => {
                u32::try_from(ENTRY + command.heap_size()).map_or(CAPACITY, |c| c.min(CAPACITY))
            }
            ShardInput::OpenRoom(..) => ENTRY as u32,
            // There is one for each room that was opened, and it must not wait: a room says it
            // when it is dropped.
            ShardInput::CloseRoom(_) => 0,
        }
    }
}

/// The rooms' end.
#[derive(Clone)]
pub(super) struct InboxSender {
    orders: Sender<ShardInput>,
    space: Arc<Semaphore>,
}

/// The shard's end.
pub struct ShardInbox {
    orders: Receiver<ShardInput>,
    space: Arc<Semaphore>,
}

/// An empty queue.
pub(super) fn inbox() -> (InboxSender, ShardInbox) {
    let (sender, orders) = channel();
    let space = Arc::new(Semaphore::new(CAPACITY as usize));
    let sender = InboxSender {
        orders: sender,
        space: space.clone(),
    };
    (sender, ShardInbox { orders, space })
}

impl InboxSender {
    /// Space for an order, if there is some now. `None` when there is not.
    pub(super) fn try_reserve(&self, input: &ShardInput) -> Option<Space<'_>> {
        match self.space.try_acquire_many(input.cost()) {
            Ok(permit) => Some(Space(Some(permit))),
            Err(tokio::sync::TryAcquireError::Closed) => Some(Space(None)),
            Err(tokio::sync::TryAcquireError::NoPermits) => None,
        }
    }

    /// Space for an order, as soon as there is some.
    pub(super) async fn reserve(&self, input: &ShardInput) -> Space<'_> {
        // It fails when the shard has ended, which takes anything and does nothing.
        Space(self.space.acquire_many(input.cost()).await.ok())
    }

    /// Puts an order into the space that was reserved for it.
    pub(super) fn put(&self, space: Space<'_>, input: ShardInput) {
        if let Some(permit) = space.0 {
            permit.forget();
        }
        // A shard that has ended takes nothing more; its rooms have heard of it by an event or
        // because their events end.
        let _ = self.orders.send(input);
    }
}

/// Space for one order.
pub(super) struct Space<'a>(Option<SemaphorePermit<'a>>);

impl ShardInbox {
    /// The next order, if one waits.
    pub fn try_recv(&self) -> Option<ShardInput> {
        let input = self.orders.try_recv().ok()?;
        self.space.add_permits(input.cost() as usize);
        Some(input)
    }

    /// Bytes of the orders that wait.
    pub fn waiting_bytes(&self) -> usize {
        (CAPACITY as usize).saturating_sub(self.space.available_permits())
    }
}

impl Drop for ShardInbox {
    fn drop(&mut self) {
        self.space.close();
    }
}

#[cfg(test)]
mod tests {
    use moim_engine::command::DataChannel;
    use moim_engine::ids::TransportId;

    use super::*;

    fn data(len: usize) -> ShardInput {
        ShardInput::Command(Command::SendData {
            transports: vec![TransportId(1)],
            channel: DataChannel::Reliable,
            payload: vec![0; len].into(),
            from: None,
        })
    }

    #[test]
    fn bytes_bound_it_and_come_back_when_orders_are_taken() {
        let (sender, inbox) = inbox();
        let mut put = 0;
        while let Some(space) = sender.try_reserve(&data(64 << 10)) {
            sender.put(space, data(64 << 10));
            put += 1;
        }
        assert!((60..=64).contains(&put), "{put} of 64 KiB in 4 MiB");
        assert!(inbox.waiting_bytes() <= CAPACITY as usize);
        let mut taken = 0;
        while inbox.try_recv().is_some() {
            taken += 1;
        }
        assert_eq!((taken, inbox.waiting_bytes()), (put, 0));
    }

    #[test]
    fn an_order_larger_than_the_queue_passes_when_that_is_empty() {
        let (sender, inbox) = inbox();
        let huge = data(2 * CAPACITY as usize);
        let space = sender.try_reserve(&huge).expect("the queue is empty");
        sender.put(space, huge);
        assert!(sender.try_reserve(&data(0)).is_none());
        assert!(inbox.try_recv().is_some());
        assert_eq!(inbox.waiting_bytes(), 0);
    }

    #[test]
    fn the_end_of_a_room_needs_no_space() {
        let (sender, inbox) = inbox();
        let huge = data(CAPACITY as usize);
        sender.put(sender.try_reserve(&huge).expect("space"), huge);
        let close = ShardInput::CloseRoom(RoomId(1));
        sender.put(sender.try_reserve(&close).expect("no space needed"), close);
        inbox.try_recv();
        assert!(matches!(inbox.try_recv(), Some(ShardInput::CloseRoom(_))));
    }

    #[tokio::test]
    async fn a_shard_that_has_ended_makes_nobody_wait() {
        let (sender, inbox) = inbox();
        let huge = data(CAPACITY as usize);
        sender.put(sender.try_reserve(&huge).expect("space"), huge);
        drop(inbox);
        let space = sender.reserve(&data(1)).await;
        sender.put(space, data(1));
        assert!(sender.try_reserve(&data(1)).is_some());
    }
}
