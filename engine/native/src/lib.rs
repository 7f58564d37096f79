//! What this machine can do and Rust has no safe way to ask for: the only unsafe code.
#![allow(unsafe_code)]

pub mod prefetch;
#[cfg(all(feature = "sockets", any(target_os = "linux", target_os = "android")))]
pub mod send_many;
#[cfg(all(feature = "sockets", any(target_os = "linux", target_os = "android")))]
pub mod steer;
