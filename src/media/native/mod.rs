//! What this machine can do and Rust has no safe way to ask for: the only unsafe code.
#![allow(unsafe_code)]

pub(crate) mod prefetch;
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) mod send_many;
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) mod steer;
