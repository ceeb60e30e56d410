//! Any file in the place of the ledger's log: it is read to its end, and bytes behind it take nothing away.

#![no_main]

use checkgate::workbench::fuzz::ledger_lines;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let (lines, torn, _) = ledger_lines(bytes);
    assert!(torn <= bytes.len() as u64, "no more is torn than there is");
    let longer = [bytes, b"\n{\"entry\":"].concat();
    let (more, _, _) = ledger_lines(&longer);
    assert!(more >= lines, "{more} lines are left of {lines}");
});
