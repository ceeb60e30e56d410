//! Any bytes as a header of the PROXY protocol: slices do not matter, no byte behind it is taken, and what is read reads
//! the same again.

#![no_main]

use checkgate::screen::proxy_header::{FIRST_BYTES, Need, need, read};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut taken = 0;
    let length = loop {
        match need(&bytes[..taken]) {
            Ok(Need::More(more)) => {
                assert!(more > taken, "it asks for nothing");
                if more > bytes.len() {
                    return;
                }
                taken = more;
            }
            Ok(Need::Whole(length)) => break length,
            Err(_) => {
                assert!(need(bytes).is_err() || bytes.len() < FIRST_BYTES, "a slice is refused and the whole is not");
                return;
            }
        }
    };
    assert_eq!(length, taken, "a byte behind the header was taken");
    assert_eq!(need(bytes), Ok(Need::Whole(length)), "the whole has another end");
    let _ = read(&bytes[..length]);
});
