//! Lets checkgate build on a machine without cmake.
//!
//! pingora-core asks for flate2 with the `zlib-ng` backend, whose `libz-ng-sys` compiles C through cmake.
//! This crate takes that name (through `[patch.crates-io]`) and forwards the eleven functions that flate2
//! calls to `libz-rs-sys`, a port of the same library to Rust. It is the one crate of the workspace where
//! `unsafe` may stand: the zlib interface is made of raw pointers.
#![allow(non_camel_case_types, non_snake_case, clippy::missing_safety_doc)]

use std::mem::{align_of, offset_of, size_of};
use std::os::raw::{c_char, c_int, c_uint, c_ulong, c_void};

use libz_rs_sys as port;

pub use port::uInt;

pub use port::{
    Z_BLOCK, Z_BUF_ERROR, Z_DATA_ERROR, Z_DEFAULT_STRATEGY, Z_DEFLATED, Z_FINISH, Z_FULL_FLUSH, Z_MEM_ERROR,
    Z_NEED_DICT, Z_NO_FLUSH, Z_OK, Z_PARTIAL_FLUSH, Z_STREAM_END, Z_STREAM_ERROR, Z_SYNC_FLUSH,
};

/// An allocation callback as flate2 fills it in: never null, unlike the port's.
pub type alloc_func = unsafe extern "C" fn(*mut c_void, c_uint, c_uint) -> *mut c_void;
/// The matching release callback.
pub type free_func = unsafe extern "C" fn(*mut c_void, *mut c_void);

/// zlib's stream as flate2 builds it: field for field the port's own, but with allocators that are not
/// optional (which is why re-exporting the port's type does not compile).
#[repr(C)]
#[derive(Copy, Clone)]
pub struct z_stream {
    pub next_in: *const u8,
    pub avail_in: c_uint,
    pub total_in: c_ulong,
    pub next_out: *mut u8,
    pub avail_out: c_uint,
    pub total_out: c_ulong,
    pub msg: *mut c_char,
    pub state: *mut port::internal_state,
    pub zalloc: alloc_func,
    pub zfree: free_func,
    pub opaque: *mut c_void,
    pub data_type: c_int,
    pub adler: c_ulong,
    pub reserved: c_ulong,
}

/// Every forward below is a pointer cast, so the two layouts must agree; if they ever differ, nothing builds.
const _: () = {
    assert!(size_of::<z_stream>() == size_of::<port::z_stream>());
    assert!(align_of::<z_stream>() == align_of::<port::z_stream>());
    assert!(offset_of!(z_stream, next_in) == offset_of!(port::z_stream, next_in));
    assert!(offset_of!(z_stream, avail_in) == offset_of!(port::z_stream, avail_in));
    assert!(offset_of!(z_stream, next_out) == offset_of!(port::z_stream, next_out));
    assert!(offset_of!(z_stream, avail_out) == offset_of!(port::z_stream, avail_out));
    assert!(offset_of!(z_stream, msg) == offset_of!(port::z_stream, msg));
    assert!(offset_of!(z_stream, state) == offset_of!(port::z_stream, state));
    assert!(offset_of!(z_stream, zalloc) == offset_of!(port::z_stream, zalloc));
    assert!(offset_of!(z_stream, zfree) == offset_of!(port::z_stream, zfree));
    assert!(offset_of!(z_stream, opaque) == offset_of!(port::z_stream, opaque));
    assert!(size_of::<alloc_func>() == size_of::<Option<alloc_func>>());
};

pub type z_streamp = *mut z_stream;

macro_rules! forward {
    ($($name:ident($($arg:ident: $type:ty),*) -> $out:ty;)*) => {$(
        pub unsafe extern "C" fn $name(stream: z_streamp $(, $arg: $type)*) -> $out {
            // SAFETY: the caller keeps zlib's contract for `stream`, and the layouts are equal (asserted above).
            unsafe { port::$name(stream.cast() $(, $arg)*) }
        }
    )*};
}

forward! {
    deflate(flush: c_int) -> c_int;
    deflateEnd() -> c_int;
    deflateReset() -> c_int;
    deflateParams(level: c_int, strategy: c_int) -> c_int;
    deflateSetDictionary(dictionary: *const u8, length: c_uint) -> c_int;
    deflateInit2_(
        level: c_int, method: c_int, window_bits: c_int, memory_level: c_int, strategy: c_int,
        version: *const c_char, stream_size: c_int
    ) -> c_int;
    inflate(flush: c_int) -> c_int;
    inflateEnd() -> c_int;
    inflateReset2(window_bits: c_int) -> c_int;
    inflateSetDictionary(dictionary: *const u8, length: c_uint) -> c_int;
    inflateInit2_(window_bits: c_int, version: *const c_char, stream_size: c_int) -> c_int;
}

/// The version text that zlib's initialisers compare with their own.
pub extern "C" fn zlibVersion() -> *const c_char {
    port::zlibVersion()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use flate2::{Compression, read, write};

    /// 3 MB that compress neither perfectly nor not at all.
    fn sample() -> Vec<u8> {
        let mut state = 1u32;
        (0..3_000_000)
            .map(|i| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                if i % 3 == 0 { (state >> 24) as u8 } else { b'a' }
            })
            .collect()
    }

    #[test]
    fn every_level_round_trips_through_gzip_and_zlib_with_flushes() {
        let data = sample();
        for level in 0..=9 {
            let mut gzip = write::GzEncoder::new(Vec::new(), Compression::new(level));
            let mut zlib = write::ZlibEncoder::new(Vec::new(), Compression::new(level));
            for chunk in data.chunks(777_777) {
                gzip.write_all(chunk).unwrap();
                gzip.flush().unwrap();
                zlib.write_all(chunk).unwrap();
            }
            let mut back = Vec::new();
            read::GzDecoder::new(&gzip.finish().unwrap()[..]).read_to_end(&mut back).unwrap();
            assert!(back == data, "gzip at level {level} changed the data");
            back.clear();
            read::ZlibDecoder::new(&zlib.finish().unwrap()[..]).read_to_end(&mut back).unwrap();
            assert!(back == data, "zlib at level {level} changed the data");
        }
    }
}
