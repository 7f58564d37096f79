//! Asking for memory before it is needed, without waiting for it. On processors other than x86-64
//! nothing happens.

use std::mem::size_of_val;

/// A line of memory, the unit of the processor's caches.
pub const LINE: usize = 64;

/// Brings a value into the processor's caches.
#[inline]
pub fn prefetch<T: ?Sized>(value: &T) {
    prefetch_head(value, size_of_val(value));
}

/// Brings the first `len` bytes of a value into the processor's caches.
#[inline]
pub fn prefetch_head<T: ?Sized>(value: &T, len: usize) {
    for offset in (0..len.min(size_of_val(value))).step_by(LINE) {
        prefetch_line(std::ptr::from_ref(value).cast(), offset);
    }
}

/// Brings the line of a value, and the one behind it, into the processor's caches: where the next
/// values of the same array are.
#[inline]
pub fn prefetch_onwards<T>(value: &T) {
    let start = std::ptr::from_ref(value).cast();
    prefetch_line(start, 0);
    prefetch_line(start, LINE);
}

#[inline]
fn prefetch_line(start: *const i8, offset: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: every x86-64 has the instruction, which neither reads nor writes for the program
        // and does nothing where there is no memory.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(start.wrapping_add(offset)) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (start, offset);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_any_size_stay_as_they_are() {
        let bytes: Vec<u8> = (0..=255).collect();
        prefetch(&bytes[..]);
        prefetch(&bytes[..0]);
        prefetch(&());
        prefetch_head(&bytes[100..], usize::MAX);
        prefetch_head(&bytes, 1);
        prefetch_onwards(&bytes[255]);
        assert!(bytes.iter().copied().eq(0..=255));
    }
}
