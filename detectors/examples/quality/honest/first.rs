//! Profiles that were written before anything was run.

use super::{Ask, Draw, Profile};

mod cancer;
mod digits;
mod pricing;

const INDEPENDENT: bool = false;
const DEPENDENT: bool = true;

const fn profile(
    name: &'static str,
    model: &'static str,
    dependent: bool,
    does: &'static str,
    make: fn(&mut Draw<'_>) -> Vec<Ask>,
) -> Profile {
    Profile { name, model, dependent, does, make }
}

/// All of them.
#[rustfmt::skip]
pub const PROFILES: &[Profile] = &[
    profile("quotes", "pricing", INDEPENDENT, "asks for one customer after the other", pricing::quotes),
    profile("portfolio batches", "pricing", INDEPENDENT, "prices a portfolio in batches of 50", pricing::portfolio),
    profile("aggregator", "pricing", INDEPENDENT, "sends 400 customers at a high rate", pricing::aggregator),
    profile("shared address", "pricing", INDEPENDENT, "is many users behind one address", pricing::shared_address),
    profile("excess chooser", "pricing", DEPENDENT, "tries the excesses on offer for a customer", pricing::excess_chooser),
    profile("short slider", "pricing", DEPENDENT, "moves one slider over 3 to 8 values", pricing::short_slider),
    profile("live slider", "pricing", DEPENDENT, "drags a slider that asks at every stop, 6 to 16 of them", pricing::live_slider),
    profile("what-if form", "pricing", DEPENDENT, "changes one to three fields of a customer in turn", pricing::what_if),
    profile("comparison portal", "pricing", DEPENDENT, "asks 20 variants of each customer", pricing::comparison),
    profile("rate card", "pricing", DEPENDENT, "prices a few standard customers for all regions, excesses and payments", pricing::rate_card),
    profile("nightly sorted job", "pricing", DEPENDENT, "prices a portfolio that is sorted by age and value", pricing::sorted),
    profile("follow-up quote", "pricing", DEPENDENT, "asks again with one or two corrected fields", pricing::follow_up),
    profile("retry with jitter", "pricing", DEPENDENT, "repeats a fifth of its requests", pricing::retry),
    profile("unit conversion", "pricing", DEPENDENT, "converts horse power and miles", pricing::converted),
    profile("drifted portfolio", "pricing", DEPENDENT, "insures older people and dearer cars than the reference", pricing::drifted),
    profile("A/B load", "pricing", DEPENDENT, "sends 20 samples 100 times a second", pricing::load),
    profile("monitoring probe", "pricing", DEPENDENT, "sends three requests in turn, one every ten seconds", pricing::probe),
    profile("backfill", "pricing", DEPENDENT, "prices old contracts in batches of 200, in order of age", pricing::backfill),
    profile("pagination", "pricing", DEPENDENT, "prices pages of 50 of which 10 stood on the page before", pricing::pages),
    profile("rounding client", "pricing", DEPENDENT, "rounds value and distance to 5,000", pricing::rounded),
    profile("renewals", "pricing", DEPENDENT, "asks for each customer now and a year later", pricing::renewals),
    profile("fleet", "pricing", DEPENDENT, "insures the vehicles of one company, all else alike", pricing::fleet),
    profile("young driver", "pricing", DEPENDENT, "adds drivers of several ages to a family's contract", pricing::young_driver),
    profile("broker", "pricing", DEPENDENT, "tries 8 to 15 combinations of terms for each customer", pricing::broker),
    profile("typing errors", "pricing", DEPENDENT, "sends a row, then the same with the error mended", pricing::typing),
    profile("scans", "digits", INDEPENDENT, "sends one image after the other", digits::scans),
    profile("scan batches", "digits", INDEPENDENT, "sends images in batches of 32", digits::batches),
    profile("one class", "digits", DEPENDENT, "sends images of one digit only", digits::one_class),
    profile("interpolating sensor", "digits", DEPENDENT, "moves slowly from one image to the next", digits::sensor),
    profile("shifted frames", "digits", DEPENDENT, "sends each image at three positions", digits::shifted),
    profile("dark scanner", "digits", DEPENDENT, "has another brightness than the reference", digits::dark),
    profile("second scans", "digits", DEPENDENT, "scans each sheet two to four times, with noise of one step", digits::second_scans),
    profile("binarised images", "digits", DEPENDENT, "sends black and white alone", digits::binarised),
    profile("gain control", "digits", DEPENDENT, "sends each image at three gains", digits::gains),
    profile("patients", "cancer", INDEPENDENT, "sends one patient after the other", cancer::patients),
    profile("patient batches", "cancer", INDEPENDENT, "sends patients in batches of 20", cancer::batches),
    profile("follow-up patients", "cancer", DEPENDENT, "measures each patient again some time later", cancer::follow_up),
    profile("converted measures", "cancer", DEPENDENT, "converts lengths to inches and back, rounded", cancer::converted),
    profile("repeated readings", "cancer", DEPENDENT, "sends three readings of each patient", cancer::readings),
    profile("imputed values", "cancer", DEPENDENT, "puts the usual value where one is missing", cancer::imputed),
    profile("uncalibrated lab", "cancer", DEPENDENT, "measures 5 % too much", cancer::uncalibrated),
    profile("sensitivity form", "cancer", DEPENDENT, "varies two measures of a patient by a tenth", cancer::sensitivity),
    profile("sorted cohort", "cancer", DEPENDENT, "sends a cohort in order of radius", cancer::sorted),
    profile("rounding reader", "cancer", DEPENDENT, "keeps three digits of each measure", cancer::rounded),
];
