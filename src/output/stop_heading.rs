//! The line above the processes of a container: its name, and the forecast of a stop in one word. Nothing
//! here prints.

use std::borrow::Cow;
use std::time::Duration;

use super::columns::forecast::answer_emphasis;
use super::escape::safe_str;
use super::style::{Emphasis, Style};
use super::width::{cut, width};
use crate::analysis::forecast::Answer;
use crate::analysis::wording::seconds;
use crate::model::signal::Signal;

/// The name of a container, and the forecast of a stop by its engine.
#[derive(Clone, Debug)]
pub struct StopHeading {
    /// The container, in qualified form.
    pub container: String,
    /// The signal that its engine's own stop sends; none if it has none.
    pub signal: Option<Signal>,
    /// Whether the stop signal is assumed.
    pub signal_assumed: bool,
    /// The time between the stop signal and KILL.
    pub grace: Duration,
    /// Whether that time is assumed.
    pub grace_assumed: bool,
    /// The forecast; none if it was not made.
    pub forecast: Option<Answer>,
    /// Whether the line has the forecast.
    pub has_forecast: bool,
    /// The state of the container, if the line has it.
    pub state: Option<Cow<'static, str>>,
}

impl StopHeading {
    /// Returns the line.
    pub fn text(&self, style: &Style) -> String {
        let assumed = |is_assumed| if is_assumed { " assumed" } else { "" };
        let grace = match self.grace {
            Duration::MAX => "no time limit".into(),
            grace => seconds(grace),
        };
        let settings = match self.signal {
            Some(signal) => format!(
                "({signal}{}, {grace}{})",
                assumed(self.signal_assumed),
                assumed(self.grace_assumed)
            ),
            None => "(no signal)".into(),
        };
        let state = self.state.iter().map(|state| format!("  {}", safe_str(state)));
        let state = state.collect::<String>();
        let forecast = self.forecast.map_or("not known", Answer::stop_word);
        let (name, columns) = (safe_str(&self.container), style.width.unwrap_or(usize::MAX));
        let rest = |stop: &str, forecast: &str| width(stop) + width(forecast);
        // On a narrow terminal the settings are left out, and the name is cut; the answer is not. A state in
        // many words is cut before the name.
        let full = format!("{state}  on stop {settings}: ");
        let stop = match width(&name) + rest(&full, forecast) <= columns {
            _ if !self.has_forecast => state,
            true => full,
            false => format!("{state}  on stop: "),
        };
        let forecast = if self.has_forecast { forecast } else { "" };
        let reserved = if self.has_forecast { rest(&stop, forecast) } else { 0 };
        let name = cut(&name, columns.saturating_sub(reserved).max(1), style.ellipsis());
        let room = columns.saturating_sub(width(&name) + width(forecast));
        let mut text = String::new();
        style.paint(&mut text, &name, Emphasis::Heading);
        text.push_str(&cut(&stop, room, style.ellipsis()));
        // An answer that rests on an assumption is not known.
        let emphasis = match self.forecast {
            Some(Answer::Yes) if self.signal_assumed => Emphasis::None,
            forecast => forecast.map_or(Emphasis::None, answer_emphasis),
        };
        style.paint(&mut text, forecast, emphasis);
        text + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_without_a_signal_names_none() {
        let heading = StopHeading {
            container: "docker:web".into(),
            signal: None,
            signal_assumed: true,
            grace: Duration::from_secs(10),
            grace_assumed: false,
            forecast: Some(Answer::No),
            has_forecast: true,
            state: None,
        };
        assert_eq!(heading.text(&Style::default()), "docker:web  on stop (no signal): killed\n");
        let heading = StopHeading { signal: Some(Signal::TERM), ..heading };
        let text = "docker:web  on stop (TERM assumed, 10 s): killed\n";
        assert_eq!(heading.text(&Style::default()), text);
    }
}
