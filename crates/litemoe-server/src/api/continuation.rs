use litemoe_text::{Finish, Logprob, Piece, TextError, TokenLogprob, Tokenizer};
use serde::{Serialize, Serializer};

use crate::api::reply::Reply;
use crate::api::usage::UsageFields;
use crate::identity::{now, random_id};
use crate::usage::Usage;

/// Text completions: the answer of `/v1/completions`, whole or streamed.
#[derive(Debug)]
pub(crate) struct Continuation {
    id: String,
    created: u64,
    model: String,
    /// Number of texts per prompt.
    n: usize,
    /// The prompts, if they are part of the texts.
    echoed: Option<Vec<Echoed>>,
    include_usage: bool,
    /// How far each streamed text is.
    offsets: Vec<Offsets>,
}

/// A prompt that is part of its texts.
#[derive(Debug)]
pub(crate) struct Echoed {
    text: String,
    /// Its first token, which has no logprob; `None` without logprobs.
    first: Option<Logprob>,
}

/// A text completion, or a chunk of a streamed one.
#[derive(Debug, Serialize)]
struct Completion<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: Vec<Choice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Option<UsageFields>>,
}

#[derive(Debug, Serialize)]
struct Choice {
    text: String,
    index: usize,
    logprobs: Option<Logprobs>,
    finish_reason: Option<&'static str>,
}

/// Logprobs of a text's tokens, in lists of equal length.
#[derive(Debug, Default, Serialize)]
struct Logprobs {
    /// Characters of the text before each token.
    text_offset: Vec<usize>,
    /// `None` of a text's first token.
    token_logprobs: Vec<Option<f32>>,
    tokens: Vec<String>,
    /// The most probable tokens and the one that is there.
    top_logprobs: Vec<Option<Top>>,
}

/// Logprobs by tokens, the largest first: an object. They are written as those of the tokens are, because lm-eval compares
/// the two.
#[derive(Debug)]
struct Top(Vec<(String, f32)>);

impl Serialize for Top {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(token, logprob)| (token, logprob)))
    }
}

impl Continuation {
    pub(crate) fn new(
        model: String,
        n_texts: usize,
        n: usize,
        echoed: Option<Vec<Echoed>>,
        include_usage: bool,
    ) -> Self {
        let (id, created) = (format!("cmpl-{}", random_id()), now());
        Self {
            id,
            created,
            model,
            n,
            echoed,
            include_usage,
            offsets: vec![Offsets::default(); n_texts],
        }
    }

    /// What is echoed of prompts.
    pub(crate) fn echoed(
        tokenizer: &Tokenizer,
        texts: Vec<String>,
        tokens: &[Vec<u32>],
        has_logprobs: bool,
    ) -> Result<Vec<Echoed>, TextError> {
        let of = |(text, tokens): (String, &Vec<u32>)| {
            let first = tokens.first().filter(|_| has_logprobs);
            let first = first.map(|&token| tokenizer.logprob(token, 0.0)).transpose()?;
            Ok(Echoed { text, first })
        };
        texts.into_iter().zip(tokens).map(of).collect()
    }

    fn completion(&self, choices: Vec<Choice>, usage: Option<Option<UsageFields>>) -> String {
        let Self { id, created, model, .. } = self;
        let completion =
            Completion { id, object: "text_completion", created: *created, model, choices, usage };
        serde_json::to_string(&completion).expect("texts and numbers")
    }

    fn chunk(&self, choices: Vec<Choice>, used: Option<Usage>) -> String {
        self.completion(choices, self.include_usage.then(|| used.map(UsageFields::from)))
    }
}

impl Reply for Continuation {
    /// The echoed prompts, if their logprobs are not waited for.
    fn begin(&mut self) -> Vec<String> {
        let Some(echoed) = &self.echoed else { return Vec::new() };
        if echoed.iter().any(|echoed| echoed.first.is_some()) {
            return Vec::new();
        }
        let choices = (0..self.offsets.len()).map(|index| {
            let text = echoed[index / self.n].text.clone();
            Choice { text, index, logprobs: None, finish_reason: None }
        });
        choices.map(|choice| self.chunk(vec![choice], None)).collect()
    }

    /// An echoed prompt with its logprobs, for each of its texts.
    fn prompt(&mut self, prompt: usize, scores: &[TokenLogprob]) -> Vec<String> {
        let Some(echoed) = self.echoed.as_ref().and_then(|echoed| echoed.get(prompt)) else {
            return Vec::new();
        };
        let mut chunks = Vec::new();
        for index in prompt * self.n..(prompt + 1) * self.n {
            let mut offsets = Offsets::default();
            let (text, logprobs) =
                (echoed.text.clone(), Some(echoed.logprobs(scores, &mut offsets)));
            self.offsets[index] = offsets;
            chunks.push(Choice { text, index, logprobs, finish_reason: None });
        }
        chunks.into_iter().map(|choice| self.chunk(vec![choice], None)).collect()
    }

    fn piece(&mut self, text: usize, piece: &Piece) -> Vec<String> {
        if piece.text.is_empty() && piece.logprobs.is_empty() && piece.finish.is_none() {
            return Vec::new();
        }
        let (mut logprobs, offsets) = (Logprobs::default(), &mut self.offsets[text]);
        logprobs.extend(&piece.text, &piece.logprobs, offsets);
        let logprobs = (!piece.logprobs.is_empty()).then_some(logprobs);
        let finish_reason = piece.finish.map(Finish::reason);
        let choice = Choice { text: piece.text.clone(), index: text, logprobs, finish_reason };
        vec![self.chunk(vec![choice], None)]
    }

    fn end(&mut self, usage: Usage) -> Vec<String> {
        self.include_usage.then(|| self.chunk(Vec::new(), Some(usage))).into_iter().collect()
    }

    fn whole(&self, prompts: &[Vec<TokenLogprob>], texts: &[Piece], usage: Usage) -> String {
        let choice = |(index, piece): (usize, &Piece)| {
            let prompt = index / self.n;
            let echoed = self.echoed.as_ref().map(|echoed| &echoed[prompt]);
            let mut offsets = Offsets::default();
            let mut logprobs = match echoed {
                Some(echoed) if echoed.first.is_some() => {
                    echoed.logprobs(&prompts[prompt], &mut offsets)
                }
                _ => Logprobs::default(),
            };
            logprobs.extend(&piece.text, &piece.logprobs, &mut offsets);
            let text = echoed.map_or("", |echoed| &echoed.text).to_owned() + &piece.text;
            let logprobs = (!logprobs.tokens.is_empty()).then_some(logprobs);
            Choice { text, index, logprobs, finish_reason: piece.finish.map(Finish::reason) }
        };
        let choices = texts.iter().enumerate().map(choice).collect();
        self.completion(choices, Some(Some(usage.into())))
    }
}

impl Echoed {
    /// Logprobs of the prompt's tokens.
    fn logprobs(&self, scores: &[TokenLogprob], offsets: &mut Offsets) -> Logprobs {
        let mut logprobs = Logprobs::default();
        offsets.text += &self.text;
        if let Some(first) = &self.first {
            logprobs.push(first, None, None, offsets);
        }
        logprobs.extend("", scores, offsets);
        offsets.finish();
        logprobs
    }
}

impl Logprobs {
    /// Appends the tokens of a further piece of the text.
    fn extend(&mut self, text: &str, tokens: &[TokenLogprob], offsets: &mut Offsets) {
        offsets.text += text;
        for TokenLogprob { drawn, top_logprobs } in tokens {
            // Of tokens with the same name the most probable is there: they come in descending order.
            let mut top = Vec::new();
            for found in top_logprobs.iter().chain([drawn]) {
                let name = name(found);
                if top.iter().all(|(other, _)| *other != name) {
                    top.push((name, found.logprob));
                }
            }
            self.push(drawn, Some(drawn.logprob), Some(Top(top)), offsets);
        }
    }

    fn push(
        &mut self,
        token: &Logprob,
        logprob: Option<f32>,
        top: Option<Top>,
        offsets: &mut Offsets,
    ) {
        self.text_offset.push(offsets.pass(&token.bytes));
        self.token_logprobs.push(logprob);
        self.tokens.push(name(token));
        self.top_logprobs.push(top);
    }
}

/// Where tokens begin in a text. A special token may be no part of it.
#[derive(Debug, Clone, Default)]
struct Offsets {
    /// Characters before the text that is left.
    n_passed: usize,
    /// The text that is left.
    text: String,
    /// Bytes of tokens that are no whole characters yet.
    bytes: Vec<u8>,
}

impl Offsets {
    /// The offset of the next token, in characters.
    fn pass(&mut self, token: &[u8]) -> usize {
        let offset = self.n_passed;
        self.bytes.extend(token);
        let Ok(text) = std::str::from_utf8(&self.bytes) else { return offset };
        // The space of a text's first token may be lost.
        let found = [text, text.trim_start()].into_iter().find(|it| self.text.starts_with(it));
        if let Some(found) = found {
            self.n_passed += found.chars().count();
            self.text.drain(..found.len());
        }
        self.bytes.clear();
        offset
    }

    /// Passes the text that is left.
    fn finish(&mut self) {
        self.n_passed += self.text.chars().count();
        self.text.clear();
        self.bytes.clear();
    }
}

/// A token's text, or its bytes if they are no text, as OpenAI's API writes them.
fn name(token: &Logprob) -> String {
    match std::str::from_utf8(&token.bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => {
            let hex = token.bytes.iter().map(|byte| format!("\\x{byte:02x}"));
            format!("bytes:{}", hex.collect::<String>())
        }
    }
}
