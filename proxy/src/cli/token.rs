//! `checkgate token`: tokens of the admin API.

use std::process::ExitCode;

use anyhow::{Context, ensure};
use checkgate_config::settings::Scope;
use clap::{Args, Subcommand};
use ring::digest::{SHA256, digest};

use super::print;
use super::run::parse;

const EXAMPLES: &str = "\
Examples:
  checkgate token new grafana --scopes read
  checkgate token new soar --scopes read,decide

The token is printed once and kept nowhere; the configuration holds its hash. Saving the configuration puts it into
force, and taking the entry out of it takes the token back.";

/// Arguments of `checkgate token`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct TokenArgs {
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Make a token, and the lines of the configuration that let it in.
    New(New),
}

#[derive(Args, Debug)]
struct New {
    /// Who uses it, as the ledger names them: 1 to 64 letters, digits, `.`, `_` or `-`.
    name: String,
    /// What it may do: read, decide (decisions and the never-block list), admin (everything).
    #[arg(long, value_delimiter = ',', required = true, value_parser = parse::<Scope>)]
    scopes: Vec<Scope>,
}

/// Makes a token.
pub fn token(args: &TokenArgs) -> anyhow::Result<ExitCode> {
    let TokenCommand::New(new) = &args.command;
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    ensure!(
        (1..=64).contains(&new.name.len()) && new.name.chars().all(plain),
        "a token's name is 1 to 64 letters, digits, \".\", \"_\" or \"-\""
    );
    let mut random = [0; 32];
    getrandom::fill(&mut random)
        .map_err(|error| anyhow::anyhow!("{error}"))
        .context("the system gives no randomness")?;
    print(&lines(&new.name, &new.scopes, &hex::encode(random)))
}

fn lines(name: &str, scopes: &[Scope], token: &str) -> String {
    let hash = hex::encode(digest(&SHA256, token.as_bytes()));
    let words: Vec<_> = scopes.iter().map(|scope| scope.as_str()).collect();
    format!(
        "{token}\n\nThis is the token; it is shown only now. The configuration takes its hash:\n\nadmin:\n  tokens:\n    - \
         {{name: {name}, sha256: {hash}, scopes: [{}]}}\n",
        words.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parts;

    #[test]
    fn the_printed_lines_are_a_configuration_that_knows_the_token() {
        let printed = lines("ci", &[Scope::Read, Scope::Decide], "0123456789abcdef");
        let (_, config) = printed.split_once("admin:").unwrap();
        let text = format!("upstream: http://127.0.0.1:1\nadmin:{config}");
        let settings = checkgate_config::read(&text, "checkgate.yaml", &parts::all()).unwrap();
        let known = settings.admin.tokens.first().unwrap();
        assert_eq!((&*known.name, known.scope), ("ci", Scope::Decide));
        assert_eq!(known.sha256, *digest(&SHA256, b"0123456789abcdef").as_ref());
    }
}
