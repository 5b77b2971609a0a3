use std::path::PathBuf;

use litemoe_adapter::MountRouting;
use litemoe_core::{RouterRule, Site};
use thiserror::Error;

/// What a server would refuse, ignore, or compute otherwise.
#[derive(Debug, Clone, PartialEq, Error)]
#[allow(missing_docs)] // the messages say what the fields are
pub(super) enum Refused {
    #[error(
        "{} is a proxy with the router rule {rule}, which no server has: extract one with `plan --router drop_rows`", model.display()
    )]
    OwnRouter { model: PathBuf, rule: RouterRule },
    #[error("{server} does not serve {family} with LoRA, as far as this program knows")]
    Family { server: &'static str, family: &'static str },
    #[error(
        "{server} does not read `{key}`, which is {found} in this model, and would compute something else"
    )]
    Config { server: &'static str, key: &'static str, found: String },
    #[error(
        "adapter {adapter}: {server} would not apply the update at {site} in {family}, or is not known to; it applies those of \
         {applied}"
    )]
    Update {
        adapter: String,
        server: &'static str,
        site: Site,
        family: &'static str,
        applied: String,
    },
    #[error("adapter {adapter}: its rank is {rank}, but {server} takes at most {max}")]
    Rank { adapter: String, server: &'static str, rank: usize, max: usize },
    #[error(
        "adapter {adapter} is mounted with {routing} routing, which no server can apply: export it with its proxy, or mount it \
         with --routing full"
    )]
    Routing { adapter: String, routing: MountRouting },
    #[error(
        "adapter {adapter} was tuned on a proxy and is not mounted: export it with its proxy, or mount it with --routing full"
    )]
    NotMounted { adapter: String },
    #[error("adapter {adapter} is all zero: it would change nothing")]
    Zero { adapter: String },
    #[error("--adapter {given}: give it a name, NAME=DIR")]
    NoName { given: String },
    #[error(
        "`{name}` is no name for servers: {what} has letters, digits and {allowed}, and begins with a letter or a digit"
    )]
    Name { name: String, what: &'static str, allowed: &'static str },
    #[error(
        "`{name}` names two models: give every adapter another name than the others and the model (--name)"
    )]
    TwoOfOneName { name: String },
}
