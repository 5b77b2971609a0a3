use std::collections::BTreeMap;
use std::sync::Arc;

use super::format::CallFormat;
use super::probe::probed;
use crate::Tokenizer;
use crate::constraint::Part;

impl Tokenizer {
    /// Format of tool calls in answers, as the chat template renders them in earlier messages. `None` if it renders none,
    /// or not as JSON, or not so that a call can be told from other text.
    pub fn call_format(&self) -> Option<&Arc<CallFormat>> {
        self.call_format.get_or_init(|| self.probe_calls().map(Arc::new)).as_ref()
    }

    fn probe_calls(&self) -> Option<CallFormat> {
        let ends: Vec<_> =
            self.end_ids().iter().filter_map(|&id| self.inner.id_to_token(id)).collect();
        let format = probed(self.template()?, &self.assistant_lead, &ends)?;
        let parts = format.literals().flat_map(|text| self.parts(text));
        let special = parts.filter_map(|part| match part {
            Part::Token(id) => Some((id, self.special_text(id)?)),
            Part::Text(_) => None,
        });
        let special: BTreeMap<_, _> = special.collect();
        Some(CallFormat { special, ..format })
    }
}
