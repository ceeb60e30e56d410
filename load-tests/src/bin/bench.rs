//! The benchmark's command; `load-tests/bench/run.sh` installs and builds what it needs and then calls it.

use checkgate_load_tests::bench;
use checkgate_load_tests::bench::options::Options;

fn main() -> anyhow::Result<()> {
    bench::run(&Options::read(std::env::args().skip(1)).unwrap_or_else(|error| error.exit()))
}
