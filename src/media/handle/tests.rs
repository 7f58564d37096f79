//! Placing rooms and connections, and which shard hears which order.

use std::sync::mpsc::{Receiver, sync_channel};

use super::*;
use moim_engine::codec::MediaKind;
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

fn shard() -> (ShardHandle, Receiver<ShardInput>) {
    let (sender, receiver) = sync_channel(1_024);
    (ShardHandle::new(sender, || {}, Vec::new()), receiver)
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
        source: TrackSource::default(),
    })));
    track
}

fn commands(inbox: &Receiver<ShardInput>) -> Vec<Command> {
    let inputs = inbox.try_iter();
    inputs
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
    let rooms: Vec<RoomMedia> = (0..4).map(|_| media.place_room()).collect();
    assert_eq!((first.load().placed(), second.load().placed()), (2, 2));
    for _ in 0..20 {
        first.load().publish(500);
        second.load().publish(100);
    }
    let _more: Vec<RoomMedia> = (0..4).map(|_| media.place_room()).collect();
    assert_eq!((first.load().placed(), second.load().placed()), (2, 6));
    drop(rooms);
    assert_eq!((first.load().placed(), second.load().placed()), (0, 4));
}

#[test]
fn a_dropped_room_is_closed_and_frees_its_load() {
    let (shard, inbox) = shard();
    let media = Media::new(vec![shard.clone()], Fingerprint([0; 32]));
    let mut room = media.place_room();
    let transport = room.place_publisher();
    add_transport(&mut room, transport);
    let id = room.room_id();
    drop(room);
    assert_eq!(shard.load().placed(), 0);
    let inputs: Vec<_> = inbox.try_iter().collect();
    assert!(matches!(inputs[0], ShardInput::OpenRoom(room, _) if room == id));
    assert!(matches!(inputs[2], ShardInput::CloseRoom(room) if room == id));
}

/// A room whose home is the first of two shards and whose subscribers go to the second.
fn spread_room() -> (RoomMedia, [(ShardHandle, Receiver<ShardInput>); 2]) {
    let shards = [shard(), shard()];
    let handles = shards.iter().map(|(handle, _)| handle.clone()).collect();
    let media = Media::with_spreading(handles, Fingerprint([0; 32]), ALWAYS);
    (media.place_room(), shards)
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
    assert!(far.try_iter().next().is_none(), "nobody is there yet");
    let subscriber = room.place_subscriber();
    add_transport(&mut room, subscriber);
    let after = add_track(&mut room, publisher);
    let told = commands(&far);
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
    let at_home = commands(&home);
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
    commands(&home);
    commands(&far);
    let subscription = room.subscription_id();
    room.command(Command::AddSubscription(NewSubscription {
        subscription,
        track,
        transport: subscriber,
        ssrc: 1,
        rtx_ssrc: None,
        transport_cc: true,
        takes_red: false,
        settings: SubscriptionSettings::default(),
    }));
    room.command(Command::SendData {
        transports: vec![publisher, subscriber],
        channel: DataChannel::Reliable,
        payload: bytes::Bytes::new(),
    });
    let at_home = commands(&home);
    let Command::SendData { transports, .. } = &at_home[0] else {
        panic!("{at_home:?}");
    };
    assert_eq!((at_home.len(), &transports[..]), (1, &[publisher][..]));
    let there = commands(&far);
    let [
        Command::AddSubscription(_),
        Command::SendData { transports, .. },
    ] = &there[..]
    else {
        panic!("{there:?}");
    };
    assert_eq!(transports[..], [subscriber]);
}

#[test]
fn a_publisher_that_goes_takes_its_mirrored_tracks_along() {
    let (mut room, [(first, home), (second, far)]) = spread_room();
    let publisher = room.place_publisher();
    add_track(&mut room, publisher);
    let subscriber = room.place_subscriber();
    commands(&home);
    commands(&far);
    room.command(Command::RemoveTransport(publisher));
    assert!(matches!(commands(&far)[..], [Command::RemoveTrack(_)]));
    assert!(matches!(commands(&home)[..], [Command::RemoveTransport(_)]));
    room.command(Command::RemoveTransport(subscriber));
    assert!(matches!(commands(&far)[..], [Command::RemoveTransport(_)]));
    drop(room);
    assert_eq!((first.load().placed(), second.load().placed()), (0, 0));
    for inbox in [home, far] {
        assert!(matches!(inbox.try_recv(), Ok(ShardInput::CloseRoom(_))));
    }
}
