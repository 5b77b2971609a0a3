use std::collections::BTreeSet;

use super::format::CallFormat;
use super::probe::probed;
use crate::Tokenizer;
use crate::constraint::Part;

impl Tokenizer {
    /// Format of tool calls in answers, as the chat template renders them in earlier messages. `None` if it renders none,
    /// or not as JSON, or not so that a call can be told from other text.
    pub fn call_format(&self) -> Option<&CallFormat> {
        let probe = || {
            let ends = self.end_ids().iter().filter_map(|&id| self.inner.id_to_token(id));
            probed(self.template()?, &self.assistant_lead, &ends.collect::<Vec<_>>())
        };
        self.call_format.get_or_init(probe).as_ref()
    }

    /// Special tokens of the format of tool calls: an answer must [show](crate::Answer::showing) them to find the calls.
    pub fn call_tokens(&self) -> BTreeSet<u32> {
        let literals = self.call_format().into_iter().flat_map(CallFormat::literals);
        let parts = literals.flat_map(|text| self.parts(text));
        let special = parts.filter_map(|part| match part {
            Part::Token(id) => Some(id),
            Part::Text(_) => None,
        });
        special.collect()
    }
}
