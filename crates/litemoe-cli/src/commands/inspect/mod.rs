mod adapter;
mod canvas;
mod kind;
mod model;
mod overlap;
mod plan;
mod print;
mod run;
mod scores;
mod shares;
mod similarity;
mod view;

use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::Args;
use litemoe_core::{Budget, Criterion, PlanOptions, Similarity};

use self::adapter::AdapterView;
use self::canvas::Canvas;
use self::kind::Kind;
use self::overlap::Overlap;
use self::plan::PlanView;
use self::run::RunView;
use self::scores::ScoresView;
use self::similarity::SimilarityView;
use self::view::View;
use crate::args::forecast::ForecastArgs;
use crate::artefact;

/// Show what is in a model, scores, a plan, similarities, an adapter, or a run of `customize`
///
/// Recognises by the content what it is given. Two scores or two plans of one foundation are compared: overlap of the
/// experts that each keeps. Maps have one cell per expert: Unicode blocks in a UTF-8 locale, else ASCII.
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// A model directory or the id of a pulled model, scores.json, plan.json, similarity.json, an adapter directory, or
    /// the output directory, report.json or sweep.json of `customize`.
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// Scores or a plan to compare with PATH.
    #[arg(value_name = "PATH2")]
    other: Option<PathBuf>,
    /// Of a model: byte budget to show, a share of the expert bytes, in (0, 1], or an amount such as 4MiB; may be repeated
    /// [default: 0.5, 0.33, 0.25 and 0.1]. Of two scores: the share of the experts that is compared [default: 0.33].
    #[arg(long)]
    budget: Vec<Budget>,
    /// Criterion of the expert maps of scores.
    #[arg(long, value_name = "NAME", default_value_t = PlanOptions::default().score)]
    score: Criterion,
    /// The foundation: says whether an adapter fits it, and how many bytes a plan keeps.
    #[arg(long, value_name = "MODEL")]
    model: Option<PathBuf>,
    #[command(flatten)]
    forecast: ForecastArgs,
    /// Draw expert maps in ASCII.
    #[arg(long)]
    ascii: bool,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

impl InspectArgs {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let (kind, path) = Kind::of(&self.path)?;
        let canvas = Canvas::of_stdout(self.ascii);
        self.check_options(kind)?;
        if let Some(other) = &self.other {
            return self.compare(kind, [&path, other], canvas);
        }
        let foundation = self.model.as_deref();
        match kind {
            Kind::Model => model::run(&path, &self.budget, &self.forecast, self.json),
            Kind::Scores => {
                let scores = artefact::read_scores(&path)?;
                ScoresView::of(&scores, self.score)?.show(self.json, canvas)
            }
            Kind::Plan => {
                let plan = plan::read(&path)?;
                PlanView::of(&plan, &path, foundation)?.show(self.json, canvas)
            }
            Kind::Similarity => {
                let similarity: Similarity = artefact::read(&path)?;
                SimilarityView::of(&similarity)?.show(self.json, canvas)
            }
            Kind::Adapter => AdapterView::of(&path, foundation)?.show(self.json, canvas),
            Kind::Run => RunView::read(&path)?.show(self.json, canvas),
        }
    }

    /// Refuses options that would not be used.
    fn check_options(&self, kind: Kind) -> anyhow::Result<()> {
        let path = self.path.display();
        let takes_budget = kind == Kind::Model || (kind == Kind::Scores && self.other.is_some());
        if !takes_budget && !self.budget.is_empty() {
            bail!("--budget is for a model or two scores, but {path} is {kind}");
        }
        let takes_model = matches!(kind, Kind::Adapter | Kind::Plan) && self.other.is_none();
        if kind != Kind::Model && self.forecast.is_given() {
            bail!(
                "--dtype, --context, --train, --measure, --bandwidth and --peak are for a model, but {path} is {kind}"
            );
        }
        if !takes_model && self.model.is_some() {
            bail!("--model is for an adapter or a plan, but {path} is {kind}");
        }
        Ok(())
    }

    fn compare(&self, kind: Kind, [path, other]: [&Path; 2], canvas: Canvas) -> anyhow::Result<()> {
        let (other_kind, _) = Kind::of(other)?;
        if kind != other_kind {
            let (path, other) = (path.display(), other.display());
            bail!("{path} is {kind}, but {other} is {other_kind}: only two of a kind are compared");
        }
        let paths = [path, other];
        let overlap = match kind {
            Kind::Scores => {
                let (first, second) = (artefact::read_scores(path)?, artefact::read_scores(other)?);
                if self.budget.len() > 1 {
                    bail!(
                        "two scores are compared under one --budget, but {} are given",
                        self.budget.len()
                    );
                }
                let budget = self.budget.first().copied();
                Overlap::of_scores([&first, &second], paths, self.score, budget)?
            }
            Kind::Plan => {
                let (first, second) = (plan::read(path)?, plan::read(other)?);
                Overlap::of_plans([&first, &second], paths)?
            }
            _ => bail!("{} is {kind}: only scores and plans are compared", path.display()),
        };
        overlap.show(self.json, canvas)
    }
}
