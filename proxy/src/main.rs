//! checkgate: an inline inference proxy that recognises attacks on a model through its API and blocks them.

pub mod capture;
pub mod decode;

fn main() {}
