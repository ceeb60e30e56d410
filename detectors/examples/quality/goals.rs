//! What was aimed at, beside what was measured.

use super::host::Outcome;
use super::recorded::{Attack, INVISIBLE, attacks, honest};
use super::table::{Table, median, percent};
use super::{crowd, diluted};

/// Attacks that search for an evasion.
const EVASION: [&str; 6] = ["boundary", "hsj", "nes", "simba", "square", "zoo"];
/// Extraction with rows that no customer sends.
const SYNTHETIC: [&str; 3] = ["copycat", "knockoff_adaptive", "price_lhs"];

/// The table.
pub fn table() -> String {
    let mut table = Table::new(&["goal", "target", "measured", ""]);
    let mut row = |goal: &str, target: &str, measured: String, held: bool| {
        let verdict = if held { "held" } else { "**missed**" };
        table.row(&[goal.to_owned(), target.to_owned(), measured, verdict.to_owned()]);
    };
    evasion(&mut row);
    extraction(&mut row);
    others(&mut row);
    benign(&mut row);
    table.finish()
}

/// Takes goal, target, what was measured, and whether the target was held.
type Row<'r> = &'r mut dyn FnMut(&str, &str, String, bool);

fn of(names: &[&str]) -> Vec<&'static Attack> {
    let named = |attack: &&Attack| names.iter().any(|name| attack.stream.name.starts_with(name));
    attacks().iter().filter(named).collect()
}

fn evasion(row: Row<'_>) {
    let all = of(&EVASION);
    let mut rows: Vec<usize> = all.iter().filter_map(|attack| attack.block()).collect();
    rows.sort_unstable();
    let share = rows.len() as f64 / all.len() as f64;
    let measured = format!("{} of {}", rows.len(), all.len());
    row("evasion searches blocked", "95 %", measured, share >= 0.95);
    let middle = median(rows.clone()).unwrap_or(usize::MAX);
    row("their median row", "20", middle.to_string(), middle <= 20);
    let late = rows.get((rows.len() * 9).div_ceil(10).saturating_sub(1)).copied().unwrap_or(usize::MAX);
    row("their 90th percentile", "row 250", late.to_string(), late <= 250);
}

fn extraction(row: Row<'_>) {
    let all = of(&SYNTHETIC);
    let in_time = |outcome: &Outcome| {
        outcome.block.is_some_and(|told| told.place.rows <= 25 || told.place.requests <= 4)
    };
    let default = all.iter().filter(|attack| in_time(&attack.trusted)).count();
    let allowed = all.iter().filter(|attack| in_time(&attack.off_blocks)).count();
    let target = "blocked by row 25 or request 4";
    row("synthetic extraction", target, format!("{default} of {}", all.len()), default == all.len());
    let goal = "the same, `off_distribution: {may_block: true}`";
    row(goal, target, format!("{allowed} of {}", all.len()), allowed == all.len());
    for (name, target) in [("price_oat", 35), ("price_enum", 35), ("price_grid", 133)] {
        let block = of(&[name]).first().and_then(|attack| attack.block());
        let measured = block.map_or_else(|| "not blocked".to_owned(), |block| format!("row {block}"));
        let held = block.is_some_and(|block| block <= target);
        row(&format!("sweep `{name}` blocked"), &format!("row {target}"), measured, held);
    }
    let jacobian = of(&["jbda"]);
    let told: Vec<usize> =
        jacobian.iter().filter_map(|attack| Some(attack.trusted.first?.place.rows)).collect();
    let last = told.iter().copied().max().unwrap_or(usize::MAX);
    let held = told.len() == jacobian.len() && last <= 70;
    row("Jacobian augmentation told of", "row 70", format!("row {last} at the latest"), held);
}

fn others(row: Row<'_>) {
    let all = of(&["mi_labelonly", "inv_search"]);
    let rows: Vec<String> = all
        .iter()
        .map(|attack| attack.block().map_or_else(|| "not".to_owned(), |block| block.to_string()))
        .collect();
    let held = all.iter().all(|attack| attack.block().is_some_and(|block| block <= 15));
    row("inversion, membership by labels, blocked", "row 15", format!("rows {}", rows.join(", ")), held);
    let quiet = of(&INVISIBLE).iter().all(|attack| attack.trusted.first.is_none());
    let measured = if quiet { "nothing claimed" } else { "something claimed" };
    row("natural extraction, one-shot membership, alone", "nothing claimed", measured.to_owned(), quiet);
    let natural = diluted::naturals().iter().filter(|natural| natural.name.contains("natural"));
    let (seen, all) =
        natural.fold((0, 0), |(seen, all), natural| (seen + usize::from(natural.is_seen()), all + 1));
    row(
        "natural extraction among the ten clients that ask or cover most, which accuses nobody",
        "listed",
        format!("{seen} of {all}"),
        seen == all,
    );
    let blocked: Vec<&Attack> = attacks().iter().filter(|attack| attack.block().is_some()).collect();
    let right = blocked.iter().filter(|attack| attack.is_named_rightly() == Some(true)).count();
    let share = right as f64 / blocked.len() as f64;
    row("family named rightly at the block", "90 %", format!("{right} of {}", blocked.len()), share >= 0.9);
    let ratio = diluted::ratio();
    row("median row at 0.1 % of the traffic over that at 10 %", "2", format!("{ratio:.2}"), ratio <= 2.0);
    let unblocked = diluted::curves().iter().flat_map(|curve| &curve.diluted);
    let (blocked, runs) =
        unblocked.fold((0, 0), |(blocked, runs), (_, row)| (blocked + usize::from(row.is_some()), runs + 1));
    row("diluted runs that end in a block", "all", format!("{blocked} of {runs}"), blocked == runs);
}

fn benign(row: Row<'_>) {
    let (recorded, blocked, told) = honest();
    row("recorded honest clients blocked", "0", format!("{blocked} of {recorded}"), blocked == 0);
    let share = told as f64 / recorded as f64;
    row("recorded honest clients told of", "10 %", percent(share, 0), share <= 0.1);
    let (streams, blocked, told) = crowd::totals();
    row("made honest clients blocked", "0 of at least 300", format!("{blocked} of {streams}"), blocked == 0);
    let share = told as f64 / streams as f64;
    row("made honest clients told of", "10 %", percent(share, 0), share <= 0.1);
}
