//! What must hold of each dashboard for Grafana, whatever it shows.

use std::collections::BTreeSet;

use serde_json::Value;

/// The dashboards, by the name of their files.
fn dashboards() -> Vec<(String, Value)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../dashboards");
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = paths.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    files
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            (path.file_name().unwrap().to_string_lossy().into_owned(), serde_json::from_str(&text).unwrap())
        })
        .collect()
}

fn list<'a>(value: &'a Value, pointer: &str) -> Vec<&'a Value> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten().collect()
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn panels(dashboard: &Value) -> Vec<&Value> {
    let all = list(dashboard, "/panels");
    all.into_iter().filter(|panel| text(panel, "/type") != "row").collect()
}

#[test]
fn every_dashboard_asks_for_source_instance_and_model_and_leads_to_the_others() {
    let all = dashboards();
    let uids: BTreeSet<_> = all.iter().map(|(_, dashboard)| text(dashboard, "/uid")).collect();
    assert_eq!(uids.len(), 3, "overview, drift and attacks, each with a name of its own: {uids:?}");
    for (file, dashboard) in &all {
        let uid = text(dashboard, "/uid");
        assert_eq!(*file, format!("{uid}.json"), "a file is called as its dashboard");
        let variables: Vec<_> =
            list(dashboard, "/templating/list").iter().map(|variable| text(variable, "/name")).collect();
        assert_eq!(variables, ["datasource", "instance", "model"], "{file}");
        let links: BTreeSet<_> = list(dashboard, "/links")
            .iter()
            .map(|link| text(link, "/url").strip_prefix("/d/").unwrap_or_default())
            .collect();
        let others: BTreeSet<_> = uids.iter().copied().filter(|other| *other != uid).collect();
        assert_eq!(links, others, "{file} leads elsewhere");
    }
}

#[test]
fn every_panel_says_what_it_shows_in_which_unit_of_which_source() {
    for (file, dashboard) in &dashboards() {
        for panel in panels(dashboard) {
            let place = format!("{file}: {}", text(panel, "/title"));
            assert!(text(panel, "/description").len() > 10, "{place} has no description");
            // Cells of a heat map are coloured, not written.
            let has_unit = !text(panel, "/fieldConfig/defaults/unit").is_empty();
            assert!(has_unit || text(panel, "/type") == "heatmap", "{place} has no unit");
            let targets = list(panel, "/targets");
            assert!(!targets.is_empty(), "{place} asks for nothing");
            for target in &targets {
                assert_eq!(text(target, "/datasource/uid"), "${datasource}", "{place}");
                assert!(
                    text(target, "/expr").contains(r#"instance=~"$instance""#),
                    "{place} shows all instances"
                );
                let names = !text(target, "/legendFormat").is_empty();
                assert!(names || ["stat", "table"].contains(&text(panel, "/type")), "{place} has no legend");
            }
        }
    }
}

#[test]
fn panels_have_places_and_numbers_of_their_own() {
    for (file, dashboard) in &dashboards() {
        let (mut ids, mut cells) = (BTreeSet::new(), BTreeSet::new());
        for panel in list(dashboard, "/panels") {
            let title = text(panel, "/title");
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{file}: the number of {title} is taken");
            let at = |side: &str| panel["gridPos"][side].as_u64().unwrap();
            assert!(at("x") + at("w") <= 24, "{file}: {title} is wider than the screen");
            for (x, y) in
                (at("x")..at("x") + at("w")).flat_map(|x| (at("y")..at("y") + at("h")).map(move |y| (x, y)))
            {
                assert!(cells.insert((x, y)), "{file}: {title} lies on another panel");
            }
        }
    }
}

const INTRODUCTION: &str = "# Panels

This page is generated from the dashboards for Grafana in `dashboards/`; write it anew with
`UPDATE_GOLDEN=1 cargo test -p checkgate metrics::`. [observability.md](observability.md) says where to look for what, and
[metrics.md](metrics.md) what each metric is. Those for Datadog have the same groups.
";
const HEAD: &str = "\n| Panel | Unit | What it shows |\n|---|---|---|\n";

fn page() -> String {
    let mut all = dashboards();
    let place = |uid: &str| {
        ["checkgate-overview", "checkgate-drift", "checkgate-attacks"].iter().position(|known| *known == uid)
    };
    all.sort_by_key(|(_, dashboard)| place(text(dashboard, "/uid")));
    let mut page = INTRODUCTION.to_owned();
    for (_, dashboard) in &all {
        page += &format!("\n## {}\n\n{}\n", text(dashboard, "/title"), text(dashboard, "/description"));
        let panels = list(dashboard, "/panels");
        for (number, panel) in panels.iter().enumerate() {
            let title = text(panel, "/title");
            if text(panel, "/type") == "row" {
                page += &format!("\n### {title}\n{HEAD}");
                continue;
            }
            if number == 0 {
                page += HEAD;
            }
            let unit = match text(panel, "/fieldConfig/defaults/unit") {
                "" => "-".to_owned(),
                unit => format!("`{unit}`"),
            };
            page += &format!("| {title} | {unit} | {} |\n", text(panel, "/description").replace('|', "\\|"));
        }
    }
    page
}

#[test]
fn the_committed_page_of_panels_is_the_dashboards() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/panels.md");
    checkgate_config::golden::equals_committed(std::path::Path::new(file), &page()).unwrap();
}
