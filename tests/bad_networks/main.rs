//! Meetings on bad networks, on a virtual clock: RFC 8867's cases as far as they fit a server,
//! and ours. Each case holds its figures and draws a plot into `target/plots`: the command that
//! runs the tests draws them all.

mod competing;
mod determinism;
mod feedback_path;
mod gallery;
mod handover;
mod large_room;
mod livekit_links;
mod loss;
#[allow(dead_code)]
mod meeting;
mod own_links;
mod pausing;
mod plot;
mod seeds;
mod variable_capacity;
mod with_tcp;
