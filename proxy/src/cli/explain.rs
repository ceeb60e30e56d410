//! `checkgate explain`: one finding or decision, told to a person.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use clap::Args;
use http::{Request, header};
use http_body_util::{BodyExt, Full, Limited};

use super::print;
use crate::demo::caller::http_client;
use crate::{state, told};

/// Longer than a running checkgate takes.
const PATIENCE: Duration = Duration::from_secs(10);
/// A longer page is none of ours.
const PAGE_BYTES_MAX: usize = 1 << 20;

/// Arguments of `checkgate explain`.
#[derive(Args, Debug)]
pub struct ExplainArgs {
    /// Id of a finding (f-...) or of a decision (d-...), as in the log, the admin API or a refusal.
    id: String,
    /// Look in this file of findings instead of asking a running checkgate.
    #[arg(long, value_name = "FILE")]
    findings: Option<PathBuf>,
    /// Admin listener of the running checkgate.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8766", conflicts_with = "findings")]
    admin: String,
    /// Its state folder; the admin token in it is sent along if it can be read.
    #[arg(long, value_name = "DIR", default_value = "checkgate-state")]
    state: PathBuf,
}

/// Prints the page of a finding.
pub fn explain(args: &ExplainArgs) -> anyhow::Result<ExitCode> {
    let page = match &args.findings {
        Some(file) => from_file(file, &args.id)?,
        None => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let asked = tokio::time::timeout(PATIENCE, from_admin(args));
                asked.await.with_context(|| format!("{} did not answer", args.admin))?
            })?
        }
    };
    print(&page)
}

/// The latest line of `file` that goes by `id`.
fn from_file(file: &Path, id: &str) -> anyhow::Result<String> {
    let opened = File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
    let mut found = None;
    for line in BufReader::new(opened).lines() {
        let line = line.with_context(|| format!("cannot read {}", file.display()))?;
        // Cheap first: most lines are about something else.
        if line.contains(id) && told::goes_by(&line, id) {
            found = Some(line);
        }
    }
    let line = found.with_context(|| format!("{} is not in {}", id.escape_debug(), file.display()))?;
    Ok(told::page(&line)?)
}

async fn from_admin(args: &ExplainArgs) -> anyhow::Result<String> {
    let target = format!("http://{}/v1/findings/{}", args.admin, args.id);
    let mut request = Request::get(&target).header(header::ACCEPT, "text/plain");
    if let Ok(token) = state::admin_token_in(&args.state) {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let request = request.body(Full::<Bytes>::default()).with_context(|| {
        format!("{} and {} make no address", args.admin.escape_debug(), args.id.escape_debug())
    })?;
    let response = http_client().request(request).await.with_context(|| {
        format!(
            "no checkgate answers at {}; name its admin listener with --admin, or a file with --findings",
            args.admin
        )
    })?;
    let status = response.status();
    let body = Limited::new(response.into_body(), PAGE_BYTES_MAX).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!("the answer broke off: {error}"))?.to_bytes();
    let text = String::from_utf8_lossy(&body).into_owned();
    if status.is_success() {
        return Ok(text);
    }
    bail!("{} answered {status}: {}", args.admin, told::detail(&text))
}
