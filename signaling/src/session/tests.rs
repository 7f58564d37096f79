//! Sessions on a socket that is a pair of queues, under a virtual clock.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use prost::Message as _;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::*;
use crate::outbox::{self, Outbox};
use crate::rooms::SeatClosed;

/// The server's end of a connection whose other end is the test.
struct FakeSocket {
    incoming: mpsc::UnboundedReceiver<Message>,
    outgoing: mpsc::UnboundedSender<(Instant, Message)>,
    /// The client reads nothing: nothing can be written.
    is_stalled: bool,
}

impl Stream for FakeSocket {
    type Item = Result<Message, axum::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.incoming
            .poll_recv(context)
            .map(|message| message.map(Ok))
    }
}

impl Sink<Message> for FakeSocket {
    type Error = axum::Error;

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), axum::Error>> {
        if self.is_stalled {
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), axum::Error> {
        let sent = self.outgoing.send((Instant::now(), message));
        sent.map_err(axum::Error::new)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), axum::Error>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), axum::Error>> {
        Poll::Ready(Ok(()))
    }
}

/// What a seat was told.
#[derive(Default)]
struct Told {
    requests: VecDeque<SignalRequest>,
    ended: Option<(Instant, SessionEnd)>,
}

struct FakeSeat(Arc<Mutex<Told>>);

impl Seat for FakeSeat {
    async fn request(&mut self, request: SignalRequest) -> Result<(), SeatClosed> {
        self.0.lock().unwrap().requests.push_back(request);
        Ok(())
    }

    async fn end(self, end: SessionEnd) {
        let before = self.0.lock().unwrap().ended.replace((Instant::now(), end));
        assert_eq!(before, None, "a session ends once");
    }
}

/// A session under way.
struct Running {
    client: mpsc::UnboundedSender<Message>,
    written: mpsc::UnboundedReceiver<(Instant, Message)>,
    /// `None` once the room has dismissed the participant.
    room: Option<Outbox>,
    told: Arc<Mutex<Told>>,
    session: JoinHandle<()>,
    start: Instant,
}

fn start(is_stalled: bool) -> Running {
    let (client, incoming) = mpsc::unbounded_channel();
    let (outgoing, written) = mpsc::unbounded_channel();
    let (room, responses) = outbox::outbox();
    let told = Arc::new(Mutex::new(Told::default()));
    let socket = FakeSocket {
        incoming,
        outgoing,
        is_stalled,
    };
    let guard = SeatGuard::new(FakeSeat(told.clone()));
    Running {
        client,
        written,
        room: Some(room),
        told,
        session: tokio::spawn(run(socket, guard, responses, Limits::default())),
        start: Instant::now(),
    }
}

impl Running {
    fn send(&self, message: signal_request::Message) {
        let message = Some(message);
        let bytes = SignalRequest { message }.encode_to_vec();
        self.client.send(Message::Binary(bytes.into())).unwrap();
    }

    fn say(&self, len: usize) -> Result<(), outbox::OutboxError> {
        self.room.as_ref().unwrap().send(SignalResponse {
            message: Some(signal_response::Message::RefreshToken("t".repeat(len))),
        })
    }

    /// Waits for the seat's end: how many seconds after the start it came, and which.
    async fn ended(mut self) -> (u64, SessionEnd, Vec<Message>) {
        self.session.await.unwrap();
        let (at, end) = self.told.lock().unwrap().ended.expect("the seat is told");
        let mut written = Vec::new();
        while let Ok((_, message)) = self.written.try_recv() {
            written.push(message);
        }
        ((at - self.start).as_secs(), end, written)
    }
}

fn close_code_of(written: &[Message]) -> Option<u16> {
    written.iter().find_map(|message| match message {
        Message::Close(frame) => frame.as_ref().map(|frame| frame.code),
        _ => None,
    })
}

#[tokio::test(start_paused = true)]
async fn a_client_that_only_answers_pings_stays() {
    let mut running = start(false);
    for nth in 1..=60 {
        let (at, message) = running.written.recv().await.unwrap();
        assert!(matches!(message, Message::Ping(_)), "{message:?}");
        assert_eq!((at - running.start).as_secs(), 10 * nth);
        running
            .client
            .send(Message::Pong(Default::default()))
            .unwrap();
    }
    assert!(!running.session.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_silent_is_lost_and_may_come_back() {
    let (after, end, written) = start(false).ended().await;
    assert_eq!((after, end), (15, SessionEnd::Lost));
    assert_eq!(close_code_of(&written), Some(close_code::AWAY));
}

#[tokio::test(start_paused = true)]
async fn any_frame_shows_that_a_client_is_there() {
    let running = start(false);
    let frames = [
        Message::Binary(Default::default()),
        Message::Text("{}".into()),
        Message::Ping(Default::default()),
        Message::Pong(Default::default()),
    ];
    for frame in frames.iter().cycle().take(40) {
        tokio::time::sleep(Duration::from_secs(14)).await;
        running.client.send(frame.clone()).unwrap();
    }
    let (after, end, _) = running.ended().await;
    assert_eq!((after, end), (40 * 14 + 15, SessionEnd::Lost));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_ended_and_what_is_queued_is_dropped() {
    let running = start(true);
    running.say(1_000).unwrap();
    // It sends all the while.
    let client = running.client.clone();
    tokio::spawn(async move {
        while client.send(Message::Pong(Default::default())).is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    let (after, end, _) = running.ended().await;
    assert_eq!((after, end), (5, SessionEnd::Lost));
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_overflows_ends_the_session_with_the_reason() {
    let running = start(false);
    // All of it comes before the session has its turn.
    while running.say(100_000).is_ok() {}
    let (after, end, written) = running.ended().await;
    assert_eq!((after, end), (0, SessionEnd::Lost));
    assert_eq!(close_code_of(&written), Some(close_code::POLICY));
    assert_eq!(written.len(), 1, "nothing of the queue is sent");
}

#[tokio::test(start_paused = true)]
async fn closing_and_leaving_end_the_seat_in_kind() {
    let running = start(false);
    running.client.send(Message::Close(None)).unwrap();
    let (_, end, written) = running.ended().await;
    // The library answers the close frame by itself.
    assert_eq!((end, close_code_of(&written)), (SessionEnd::Lost, None));

    let running = start(false);
    running.send(signal_request::Message::Leave(LeaveRequest::default()));
    let told = running.told.clone();
    let (_, end, written) = running.ended().await;
    assert_eq!(end, SessionEnd::Final);
    assert_eq!(close_code_of(&written), Some(close_code::NORMAL));
    assert_eq!(told.lock().unwrap().requests.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_room_that_dismisses_is_heard_to_the_end() {
    let mut running = start(false);
    running.say(10).unwrap();
    running.room = None;
    let (after, end, written) = running.ended().await;
    assert_eq!((after, end), (0, SessionEnd::Final));
    assert!(matches!(written[0], Message::Binary(_)));
    assert_eq!(close_code_of(&written), Some(close_code::NORMAL));
}

#[tokio::test(start_paused = true)]
async fn floods_and_malformed_messages_end_the_session_with_the_reason() {
    let long = format!("{{\"{}", "ß".repeat(500));
    let floods: [(Message, usize, u16); 5] = [
        (Message::Ping(Default::default()), 3_000, close_code::POLICY),
        (Message::Text("{}".into()), 3_000, close_code::POLICY),
        (
            Message::Text(format!("{{\"x\":\"{}\"}}", "x".repeat(1 << 20)).into()),
            30,
            close_code::POLICY,
        ),
        (
            Message::Binary(vec![0xff; 40].into()),
            1,
            close_code::INVALID,
        ),
        (Message::Text(long.into()), 1, close_code::INVALID),
    ];
    for (message, count, code) in floods {
        let running = start(false);
        for _ in 0..count {
            running.client.send(message.clone()).unwrap();
        }
        let (_, end, written) = running.ended().await;
        assert_eq!(
            (end, close_code_of(&written)),
            (SessionEnd::Final, Some(code))
        );
        let reason = written.iter().find_map(|message| match message {
            Message::Close(Some(frame)) => Some(frame.reason.len()),
            _ => None,
        });
        assert!(reason.unwrap() <= MAX_CLOSE_REASON);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_is_answered_in_the_form_in_which_it_spoke_last() {
    let mut running = start(false);
    for text in [true, false, false, true] {
        let ping = crate::wire::Ping {
            timestamp: 7,
            rtt: 3,
        };
        if text {
            let json = r#"{"pingReq":{"timestamp":"7","rtt":3,"newField":{"a":[1]}}}"#;
            running.client.send(Message::Text(json.into())).unwrap();
        } else {
            running.send(signal_request::Message::PingReq(ping));
        }
        let (_, answer) = running.written.recv().await.unwrap();
        let response: SignalResponse = match answer {
            Message::Text(answer) if text => serde_json::from_str(&answer).unwrap(),
            Message::Binary(answer) if !text => SignalResponse::decode(answer).unwrap(),
            other => panic!("{other:?}"),
        };
        assert!(matches!(
            response.message,
            Some(signal_response::Message::PongResp(Pong {
                last_ping_timestamp: 7,
                ..
            }))
        ));
    }
}
