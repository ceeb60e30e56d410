//! A stretch of the reference as the other stretches see it: what they never met lies outside of their range and labels.
//!
//! Bins are cut from all rows of a reference, so that none of its stretches has a value outside. A live stretch has one
//! as often as chance sets a new extreme: among 20 stretches every tenth does. Were the reference's own stretches not
//! scored with their own extremes outside, such a live stretch would be stranger than it is. Two stretches of a column of
//! numbers are concerned, and of a column of labels those with a label that no other stretch has.

use super::bins::{Bins, Value};
use super::counts::Counts;

/// The counts of each stretch with the values that no other part of the reference has, or has beyond, put outside.
/// `stretches` are what each counted by the bins; `ends` are the rows, ascending, that each ends before.
#[must_use]
pub fn as_others_see(bins: &Bins, values: &[Value], stretches: &[Counts], ends: &[usize]) -> Vec<Counts> {
    let parts = parts(values, ends);
    let strange = match bins {
        Bins::Numbers(_) => {
            let low = beyond(&parts, -1.0).into_iter().map(|(part, value)| (part, value, 0));
            let top = bins.scale().saturating_sub(1);
            low.chain(beyond(&parts, 1.0).into_iter().map(|(part, value)| (part, value, top))).collect()
        }
        Bins::Labels(_) => alone(&parts, bins.scale().saturating_sub(1)),
    };
    let mut seen: Vec<Vec<u32>> = stretches.iter().map(|stretch| stretch.slots().to_vec()).collect();
    for (part, value, outside) in strange.into_iter().filter(|(_, _, outside)| bins.is_outside(*outside)) {
        // The rows after the last whole stretch are a part, and no stretch.
        let Some(slots) = seen.get_mut(part) else { continue };
        if let Some(count) = slots.get_mut(bins.slot(value)) {
            *count = count.saturating_sub(1);
        }
        if let Some(count) = slots.get_mut(outside) {
            *count += 1;
        }
    }
    seen.into_iter().map(Counts::from_slots).collect()
}

/// The rows of each stretch, and those after the last.
fn parts<'v>(values: &'v [Value], ends: &[usize]) -> Vec<&'v [Value]> {
    let from = std::iter::once(0).chain(ends.iter().copied());
    let until = ends.iter().copied().chain(std::iter::once(values.len()));
    from.zip(until).map(|(from, until)| values.get(from..until).unwrap_or(&[])).collect()
}

/// The numbers of one part that lie beyond those of all others, upwards where `sign` is 1 and downwards where it is -1.
fn beyond(parts: &[&[Value]], sign: f64) -> Vec<(usize, Value)> {
    let along = |value: &Value| match value {
        Value::Number(number) if !number.is_nan() => Some(sign * number),
        _ => None,
    };
    let farthest = |part: &&[Value]| part.iter().filter_map(along).fold(f64::NEG_INFINITY, f64::max);
    let mut order: Vec<(f64, usize)> = parts.iter().map(farthest).zip(0..).collect();
    order.sort_by(|(one, _), (other, _)| other.total_cmp(one));
    let [(_, place), (rest, _), ..] = order.as_slice() else { return Vec::new() };
    // Without any number elsewhere there is no range to lie outside of.
    let part = parts.get(*place).filter(|_| rest.is_finite());
    let outside =
        part.into_iter().copied().flatten().filter(|value| along(value).is_some_and(|at| at > *rest));
    outside.map(|value| (*place, *value)).collect()
}

/// The labels of each part that no other part has.
fn alone(parts: &[&[Value]], outside: usize) -> Vec<(usize, Value, usize)> {
    let labels = parts.iter().zip(0..).flat_map(|(part, place)| part.iter().map(move |value| (value, place)));
    let mut met: Vec<(u64, usize)> = labels
        .filter_map(|(value, place)| match value {
            Value::Label(label) => Some((*label, place)),
            Value::Missing | Value::Number(_) => None,
        })
        .collect();
    met.sort_unstable();
    let of_one_part = |run: &&[(u64, usize)]| {
        run.first().zip(run.last()).is_some_and(|((_, first), (_, last))| first == last)
    };
    let runs = met.chunk_by(|(one, _), (other, _)| one == other).filter(of_one_part);
    runs.flatten().map(|(label, place)| (*place, Value::Label(*label), outside)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(values: &[Value], ends: &[usize]) -> (Bins, Vec<Counts>) {
        let bins = Bins::of(values);
        let counts = |part: &&[Value]| {
            let mut counts = Counts::new(bins.slots());
            part.iter().for_each(|value| counts.add(bins.slot(*value)));
            counts
        };
        let stretches: Vec<Counts> = parts(values, ends).iter().take(ends.len()).map(counts).collect();
        let seen = as_others_see(&bins, values, &stretches, ends);
        let same = seen.iter().zip(&stretches).all(|(seen, stretch)| seen.total() == stretch.total());
        assert!(same, "nothing is lost");
        (bins, seen)
    }

    #[test]
    fn the_extremes_of_a_reference_lie_outside_of_what_the_other_stretches_know() {
        let values: Vec<Value> = [5.0, 6.0, -9.0, -8.0, 4.0, 7.0, 6.5, 5.0, 30.0].map(Value::Number).to_vec();
        let (bins, seen) = seen(&values, &[2, 4, 6, 8]);
        let outside: Vec<u32> =
            seen.iter().map(|stretch| stretch.at(0) + stretch.at(bins.scale() - 1)).collect();
        assert_eq!(
            outside,
            [0, 2, 0, 0],
            "two beneath 4; the highest lies in the rows after the last stretch"
        );
    }

    #[test]
    fn an_extreme_that_two_stretches_share_is_inside() {
        let values: Vec<Value> = [1.0, 3.0, 1.0, 3.0].map(Value::Number).to_vec();
        let (bins, seen) = seen(&values, &[2, 4]);
        assert!(seen.iter().all(|stretch| stretch.at(0) + stretch.at(bins.scale() - 1) == 0));
    }

    #[test]
    fn a_label_of_one_stretch_alone_is_new_to_the_others() {
        let values: Vec<Value> = [1, 2, 1, 2, 3, 3, 1, 2].map(Value::Label).to_vec();
        let (bins, seen) = seen(&values, &[2, 4, 6, 8]);
        let new: Vec<u32> = seen.iter().map(|stretch| stretch.at(bins.scale() - 1)).collect();
        assert_eq!(new, [0, 0, 2, 0]);
    }

    #[test]
    fn a_column_that_only_one_part_knows_has_no_range_to_lie_outside_of() {
        let values = [Value::Number(1.0), Value::Number(2.0), Value::Missing, Value::Missing];
        let (_, seen) = seen(&values, &[2, 4]);
        assert_eq!(seen[0].at(0), 0);
    }
}
