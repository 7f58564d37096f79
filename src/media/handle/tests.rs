//! Placing rooms and connections, and which shard hears which order.

use std::time::Duration;

use super::*;
use moim_engine::Event;
use moim_engine::codec::{MediaKind, PayloadTypes};
use moim_engine::command::Command;
use moim_engine::command::{
    DataChannel, IceCredentials, NewSubscription, NewTrack, NewTransport, SubscriptionSettings,
    TrackSource,
};
use moim_engine::ids::{ShardId, TrackId, TransportId};

/// Every subscriber goes to another shard than the room.
const ALWAYS: Spreading = Spreading {
    busy: 0,
    connections: 0,
    margin: i32::MIN,
};

fn shard() -> (ShardHandle, ShardInbox) {
    ShardHandle::new(|| {}, Vec::new())
}

fn add_transport(room: &mut RoomMedia, transport: TransportId) {
    let id = room.room_id();
    room.command(Command::AddTransport(Box::new(NewTransport {
        transport,
        room: id,
        local_ice: IceCredentials {
            ufrag: "u".into(),
            pwd: "p".into(),
        },
        opens_data_channels: false,
    })));
}

fn add_track(room: &mut RoomMedia, transport: TransportId) -> TrackId {
    let track = room.track_id();
    room.command(Command::AddTrack(Box::new(NewTrack {
        track,
        transport,
        kind: MediaKind::Video,
        screen: false,
        encrypted: false,
        source: TrackSource::default(),
    })));
    track
}

fn inputs(inbox: &ShardInbox) -> Vec<ShardInput> {
    std::iter::from_fn(|| inbox.try_recv()).collect()
}

/// What the room has ordered of a shard since this was last asked.
fn commands(room: &mut RoomMedia, inbox: &ShardInbox) -> Vec<Command> {
    assert!(room.try_flush());
    inputs(inbox)
        .into_iter()
        .filter_map(|input| match input {
            ShardInput::Command(command) => Some(command),
            _ => None,
        })
        .collect()
}

#[test]
fn rooms_go_to_the_least_loaded_shard() {
    let (first, _first_inbox) = shard();
    let (second, _second_inbox) = shard();
    let media = Media::new(vec![first.clone(), second.clone()], Fingerprint([0; 32]));
    let rooms: Vec<_> = (0..4).map(|_| media.place_room()).collect();
    assert_eq!((first.load().placed(), second.load().placed()), (2, 2));
    for _ in 0..20 {
        first.load().publish(500);
        second.load().publish(100);
    }
    let _more: Vec<_> = (0..4).map(|_| media.place_room()).collect();
    assert_eq!((first.load().placed(), second.load().placed()), (2, 6));
    drop(rooms);
    assert_eq!((first.load().placed(), second.load().placed()), (0, 4));
}

#[test]
fn a_dropped_room_is_closed_and_frees_its_load() {
    let (shard, inbox) = shard();
    let media = Media::new(vec![shard.clone()], Fingerprint([0; 32]));
    let (mut room, _events) = media.place_room();
    let transport = room.place_publisher();
    add_transport(&mut room, transport);
    let id = room.room_id();
    assert!(room.try_flush());
    drop(room);
    assert_eq!(shard.load().placed(), 0);
    let inputs = inputs(&inbox);
    assert!(matches!(inputs[0], ShardInput::OpenRoom(room, _) if room == id));
    assert!(matches!(inputs[2], ShardInput::CloseRoom(room) if room == id));
}

/// A room whose home is the first of two shards and whose subscribers go to the second.
fn spread_room() -> (RoomMedia, [(ShardHandle, ShardInbox); 2]) {
    let shards = [shard(), shard()];
    let handles = shards.iter().map(|(handle, _)| handle.clone()).collect();
    let media = Media::with_spreading(handles, Fingerprint([0; 32]), ALWAYS);
    (media.place_room().0, shards)
}

#[test]
fn tracks_from_before_and_after_are_mirrored_where_subscribers_are() {
    let (mut room, [(_, home), (_, far)]) = spread_room();
    let publisher = room.place_publisher();
    let before = add_track(&mut room, publisher);
    room.command(Command::SetTrackMuted {
        track: before,
        muted: true,
    });
    assert!(commands(&mut room, &far).is_empty(), "nobody is there yet");
    let subscriber = room.place_subscriber();
    add_transport(&mut room, subscriber);
    let after = add_track(&mut room, publisher);
    let told = commands(&mut room, &far);
    let [
        Command::MirrorTrack {
            track: first,
            home: at,
            ..
        },
        Command::SetTrackMuted { muted: true, .. },
        Command::AddTransport(new),
        Command::MirrorTrack { track: second, .. },
    ] = &told[..]
    else {
        panic!("{told:?}");
    };
    assert_eq!(
        (first.track, second.track, *at),
        (before, after, ShardId(0))
    );
    assert_eq!(new.transport, subscriber);
    let at_home = commands(&mut room, &home);
    assert!(
        matches!(
            &at_home[..],
            [
                Command::AddTrack(_),
                Command::SetTrackMuted { .. },
                Command::AddTrack(_)
            ]
        ),
        "{at_home:?}"
    );
}

#[test]
fn orders_go_to_the_shard_of_their_connection_and_messages_to_both() {
    let (mut room, [(_, home), (_, far)]) = spread_room();
    let publisher = room.place_publisher();
    let track = add_track(&mut room, publisher);
    let subscriber = room.place_subscriber();
    commands(&mut room, &home);
    commands(&mut room, &far);
    let subscription = room.subscription_id();
    room.command(Command::AddSubscription(NewSubscription {
        shown_as: None,
        subscription,
        track,
        transport: subscriber,
        ssrc: 1,
        rtx_ssrc: None,
        transport_cc: true,
        payload_types: PayloadTypes::as_offered().without_red(),
        settings: SubscriptionSettings::default(),
    }));
    room.command(Command::SendData {
        transports: vec![publisher, subscriber],
        channel: DataChannel::Reliable,
        payload: bytes::Bytes::new(),
        from: Some(publisher.into()),
    });
    let at_home = commands(&mut room, &home);
    let Command::SendData { transports, .. } = &at_home[0] else {
        panic!("{at_home:?}");
    };
    assert_eq!((at_home.len(), &transports[..]), (1, &[publisher][..]));
    let there = commands(&mut room, &far);
    let [
        Command::AddSubscription(_),
        Command::SendData {
            transports, from, ..
        },
    ] = &there[..]
    else {
        panic!("{there:?}");
    };
    assert_eq!(transports[..], [subscriber]);
    let source = from.expect("its sender");
    assert_eq!((source.transport, source.shard), (publisher, ShardId(0)));
}

#[test]
fn a_publisher_that_goes_takes_its_mirrored_tracks_along() {
    let (mut room, [(first, home), (second, far)]) = spread_room();
    let publisher = room.place_publisher();
    add_track(&mut room, publisher);
    let subscriber = room.place_subscriber();
    commands(&mut room, &home);
    commands(&mut room, &far);
    room.command(Command::RemoveTransport(publisher));
    assert!(matches!(
        commands(&mut room, &far)[..],
        [Command::RemoveTrack(_)]
    ));
    assert!(matches!(
        commands(&mut room, &home)[..],
        [Command::RemoveTransport(_)]
    ));
    room.command(Command::RemoveTransport(subscriber));
    assert!(matches!(
        commands(&mut room, &far)[..],
        [Command::RemoveTransport(_)]
    ));
    assert!(inputs(&home).is_empty());
    drop(room);
    assert_eq!((first.load().placed(), second.load().placed()), (0, 0));
    for inbox in [home, far] {
        assert!(matches!(inbox.try_recv(), Some(ShardInput::CloseRoom(_))));
    }
}

/// As many orders as several times the inbox of a shard takes.
fn flood(room: &mut RoomMedia, transport: TransportId) {
    for _ in 0..200 {
        room.command(Command::SendData {
            transports: vec![transport],
            channel: DataChannel::Reliable,
            payload: vec![0; 64 << 10].into(),
            from: None,
        });
    }
}

#[test]
fn a_room_that_is_dropped_before_it_was_opened_leaves_nothing() {
    let (shard, inbox) = shard();
    let media = Media::new(vec![shard.clone()], Fingerprint([0; 32]));
    let (room, _events) = media.place_room();
    drop(room);
    assert!(inputs(&inbox).is_empty());
    assert_eq!(shard.load().placed(), 0);
}

#[test]
fn a_dropped_room_is_closed_on_a_shard_that_stalls_and_nobody_waits() {
    let (shard, inbox) = shard();
    let media = Media::new(vec![shard], Fingerprint([0; 32]));
    let (mut room, _events) = media.place_room();
    let transport = room.place_publisher();
    let id = room.room_id();
    flood(&mut room, transport);
    assert!(!room.try_flush(), "the shard reads nothing");
    drop(room);
    let last = inputs(&inbox).pop();
    assert!(matches!(last, Some(ShardInput::CloseRoom(room)) if room == id));
}

/// On a runtime with one thread: if that were blocked, nothing of this would end.
#[tokio::test]
async fn a_shard_that_never_reads_blocks_no_worker_and_costs_a_bounded_memory() {
    let (stalled, inbox) = shard();
    let media = Media::new(vec![stalled], Fingerprint([0; 32]));
    let (mut room, _events) = media.place_room();
    let transport = room.place_publisher();
    flood(&mut room, transport);
    let stuck = tokio::spawn(async move {
        room.flush().await;
        room
    });
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!stuck.is_finished(), "the shard has not read");
    assert!(
        inbox.waiting_bytes() <= 4 << 20,
        "{}",
        inbox.waiting_bytes()
    );
    // Another room on the same shard ends without waiting too.
    drop(media.place_room());
    let mut messages = 0;
    while !stuck.is_finished() {
        messages += inputs(&inbox).len();
        tokio::task::yield_now().await;
    }
    messages += inputs(&inbox).len();
    assert_eq!(messages, 1 + 200, "the room's opening and every message");
    drop(stuck.await);
}

#[tokio::test]
async fn a_flush_that_is_given_up_loses_no_order() {
    let (shard, inbox) = shard();
    let media = Media::new(vec![shard], Fingerprint([0; 32]));
    let (mut room, _events) = media.place_room();
    let transport = room.place_publisher();
    flood(&mut room, transport);
    let mut messages = 0;
    while !room.try_flush() {
        let flush = room.flush();
        let given_up = tokio::time::timeout(Duration::ZERO, flush).await;
        assert!(given_up.is_err());
        messages += inputs(&inbox).len();
    }
    messages += inputs(&inbox).len();
    assert_eq!(messages, 1 + 200);
}

#[tokio::test]
async fn a_room_hears_that_its_shard_has_ended() {
    let (shard, inbox) = shard();
    let media = Media::new(vec![shard], Fingerprint([0; 32]));
    let (mut room, mut events) = media.place_room();
    let transport = room.place_publisher();
    flood(&mut room, transport);
    assert!(!room.try_flush());
    drop(inbox);
    room.flush().await;
    let last: Option<Event> = events.recv().await;
    assert!(last.is_none(), "{last:?}");
}

#[tokio::test]
async fn a_shard_hears_that_messages_were_taken_when_they_have_been_passed_on() {
    let (shard, inbox) = shard();
    let media = Media::new(vec![shard], Fingerprint([0; 32]));
    let (mut room, mut events) = media.place_room();
    room.flush().await;
    let Some(ShardInput::OpenRoom(_, sender)) = inbox.try_recv() else {
        panic!("the room was not opened");
    };
    let message = |len: usize| Event::Data {
        transport: TransportId(1),
        channel: DataChannel::Reliable,
        payload: vec![0; len].into(),
    };
    let expected: usize = [100, 1_000]
        .map(|len| message(len).window_cost())
        .iter()
        .sum();
    for len in [100, 1_000] {
        sender.try_send(message(len)).expect("space");
    }
    room.flush().await;
    assert!(inbox.try_recv().is_none(), "nothing was taken yet");
    while events.try_recv().is_some() {}
    let transport = room.place_publisher();
    add_transport(&mut room, transport);
    room.flush().await;
    let told = commands(&mut room, &inbox);
    let [Command::AddTransport(_), Command::DataTaken { cost, .. }] = &told[..] else {
        panic!("{told:?}");
    };
    assert_eq!(*cost, expected);
    room.flush().await;
    assert!(inbox.try_recv().is_none(), "it is said once");
}
