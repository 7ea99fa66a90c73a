//! Tests of drawn tables: the text at each width.

use proptest::prelude::*;

use super::*;
use crate::output::tree;
use crate::output::value::Value;
use crate::output::width::width;

#[derive(Clone)]
struct TestRow {
    pid: i64,
    user: Vec<u8>,
    command: Vec<u8>,
}

static TABLE: &[Column<TestRow>] = &[
    Column::new("pid", "pid", "the pid", |r: &TestRow| Value::Int(r.pid)).right().priority(255),
    Column::new("user", "user", "the user", |r: &TestRow| Value::Bytes(r.user.clone()))
        .priority(50),
    Column::new("state", "s", "the state", |_| Value::Char('S'))
        .emphasis(|r| if r.pid == 1 { Emphasis::Bad } else { Emphasis::None }),
    Column::new("command", "command", "the command", |r: &TestRow| Value::Bytes(r.command.clone()))
        .flexible(),
];

fn row(pid: i64, user: &str, command: &str) -> TestRow {
    TestRow { pid, user: user.into(), command: command.into() }
}

fn columns(order: &[usize]) -> Selection<TestRow> {
    let columns = order.iter().map(|index| TABLE[*index]).collect();
    Selection { columns, exact: false }
}

fn at_width(width: usize) -> Style {
    Style { width: Some(width), unicode: true, color: false }
}

/// A pipe.
const PIPE: Style = Style { width: None, unicode: false, color: false };

fn header() -> TableOptions {
    TableOptions { header: true, ..TableOptions::default() }
}

fn sample() -> Vec<TestRow> {
    vec![
        row(1, "root", "nginx: master process /usr/sbin/nginx -g daemon off;"),
        row(1234, "größe", "a\nb"),
    ]
}

fn draw_sample(order: &[usize], style: &Style) -> String {
    draw_all(&columns(order), &sample(), style)
}

fn draw_all(selection: &Selection<TestRow>, rows: &[TestRow], style: &Style) -> String {
    let lines: Vec<_> = rows.iter().map(TableLine::flat).collect();
    draw(selection, &lines, style, &header())
}

fn lines(lines: &[&str]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

#[test]
fn a_pipe_gets_everything() {
    let expected = [
        " PID  USER   S  COMMAND",
        "   1  root   S  nginx: master process /usr/sbin/nginx -g daemon off;",
        r"1234  größe  S  a\nb",
    ];
    assert_eq!(draw_sample(&[0, 1, 2, 3], &PIPE), lines(&expected));
    let (selection, rows) = (columns(&[0, 1, 2, 3]), sample());
    let rows: Vec<_> = rows.iter().map(TableLine::flat).collect();
    let bare = draw(&selection, &rows, &PIPE, &TableOptions::default());
    assert_eq!(bare, lines(&expected[1..]));
}

#[test]
fn a_table_with_an_emptied_comfy_layout_differs() {
    let rows = sample();
    let rows: Vec<_> = rows.iter().map(TableLine::flat).collect();
    let (layouts, parts) = measure_all(&columns(&[0, 1, 2, 3]), &rows, &PIPE, &header());
    let mut table = lay_out(&layouts, &parts[0], &PIPE);
    let print = |table: &Table| print(table, &layouts, &parts[0], &PIPE);
    let printed = print(&table);
    assert_eq!(printed, draw_sample(&[0, 1, 2, 3], &PIPE));
    table.column_iter_mut().for_each(|column| {
        column.set_padding((0, 5)).remove_constraint();
        column.set_cell_alignment(CellAlignment::Right);
    });
    let spaced = print(&table);
    assert!(spaced.starts_with(" PID      USER     S"), "{spaced}");
    table.column_iter_mut().for_each(|column| {
        column.set_constraint(ColumnConstraint::Hidden);
    });
    assert_eq!(print(&table), "\n\n\n");
}

#[test]
fn a_narrow_terminal_loses_columns_then_the_end_of_the_command() {
    let all = [
        " PID  USER   S  COMMAND",
        "   1  root   S  nginx: master process /us…",
        r"1234  größe  S  a\nb",
    ];
    let no_user = [" PID  S  COMMAND", "   1  S  nginx: master process /us…", r"1234  S  a\nb"];
    let pid_alone = [" PID  COMMA+", "   1  nginx+", r"1234  a\nb"];
    assert_eq!(draw_sample(&[0, 1, 2, 3], &at_width(42)), lines(&all));
    assert_eq!(draw_sample(&[0, 1, 2, 3], &at_width(35)), lines(&no_user));
    let ascii = Style { unicode: false, ..at_width(12) };
    assert_eq!(draw_sample(&[0, 1, 2, 3], &ascii), lines(&pid_alone));
}

#[test]
fn a_flexible_column_of_low_priority_is_dropped_before_others() {
    let selection = |priority| {
        let mut selection = columns(&[0, 1, 2, 3]);
        selection.columns[3].priority = priority;
        selection
    };
    let no_command = [" PID  USER   S", "   1  root   S", "1234  größe  S"];
    let no_user = [" PID  S  COMMAND", "   1  S  nginx: master process /us…", r"1234  S  a\nb"];
    for (priority, width, expected) in [(40, 35, &no_command), (60, 35, &no_user)] {
        let drawn = draw_all(&selection(priority), &sample(), &at_width(width));
        assert_eq!(drawn, lines(expected));
    }
    // Where its whole text fits beside the rest, it comes back.
    let short = [row(1, "root", "sh")];
    let drawn = draw_all(&selection(40), &short, &at_width(24));
    assert_eq!(drawn, lines(&["PID  USER  S  COMMAND", "  1  root  S  sh"]));
}

#[test]
fn selected_columns_are_cut_at_the_edge_instead_of_dropped() {
    let exact = |order| Selection { exact: true, ..columns(order) };
    let drawn = draw_all(&exact(&[0, 1, 2]), &sample(), &at_width(10));
    assert_eq!(drawn, lines(&[" PID  USER", "   1  root", "1234  grö…"]));
    assert_eq!(draw_sample(&[1, 0], &at_width(3)), lines(&["PID", "  1", "12…"]));
    assert_eq!(draw_sample(&[0, 3], &at_width(0)), lines(&["", "", ""]));
    // The flexible column may be anywhere, or alone.
    let middle = ["COMM…   PID  S", "ngin…     1  S", r"a\nb   1234  S"];
    assert_eq!(draw_all(&exact(&[3, 0, 2]), &sample(), &at_width(14)), lines(&middle));
    let alone = ["COMMAND", "nginx: master…", r"a\nb"];
    assert_eq!(draw_all(&exact(&[3]), &sample(), &at_width(14)), lines(&alone));
    assert_eq!(draw_sample(&[], &PIPE), lines(&["", "", ""]));
}

#[test]
fn wide_columns_come_together_where_half_of_the_command_fits() {
    let mut selection = columns(&[0, 1, 2, 3]);
    selection.columns[1].wide = true;
    selection.columns[2].wide = true;
    let drawn = |width| draw_all(&selection, &sample(), &at_width(width));
    // 52 columns of command, and 16 before it.
    assert!(drawn(42).starts_with(" PID  USER   S  COMMAND\n"), "{}", drawn(42));
    assert!(drawn(41).starts_with(" PID  COMMAND\n"), "{}", drawn(41));
    assert!(drawn(41).contains("nginx: master process /usr/sbin/ng…"));
    let mut widths = ColumnWidths::new();
    let rows = sample();
    let rows: Vec<_> = rows.iter().map(TableLine::flat).collect();
    let drawing = draw_again(&selection, &rows, &at_width(41), &header(), &mut widths);
    assert_eq!(drawing.omitted, ["user", "state"]);
    // The need of the command is remembered: columns do not come and go at each refresh.
    let again = draw_again(&selection, &rows[1..], &at_width(41), &header(), &mut widths);
    assert_eq!(again.omitted, ["user", "state"]);
}

#[test]
fn colour_is_around_the_text_only() {
    let style = Style { color: true, ..PIPE };
    let drawn = draw_sample(&[0, 2], &style);
    assert_eq!(drawn, " \x1b[1mPID\x1b[0m  \x1b[1mS\x1b[0m\n   1  \x1b[31mS\x1b[0m\n1234  S\n");
}

#[test]
fn the_tree_leaves_the_command_half_of_the_room() {
    let rows = [row(1, "", "init"), row(2, "", "sshd -D"), row(3, "", "bash with arguments")];
    let rows_in_tree: Vec<_> = rows
        .iter()
        .zip(["", "└─ ", "   └─ "])
        .map(|(row, prefix)| TableLine { row, prefix: prefix.into(), mark: Mark::None })
        .collect();
    let drawn = |style: &Style| draw(&columns(&[0, 3]), &rows_in_tree, style, &header());
    let whole = ["PID  COMMAND", "  1  init", "  2  └─ sshd -D", "  3     └─ bash with arguments"];
    assert_eq!(drawn(&PIPE), lines(&whole));
    let narrow = ["PID  COMMAND", "  1  init", "  2  └─ ssh…", "  3    …bas…"];
    assert_eq!(drawn(&at_width(12)), lines(&narrow));
}

#[test]
fn a_text_longer_than_16_bits_is_one_line() {
    let rows = [row(1, &"x".repeat(100_000), &"y ".repeat(100_000)), row(2, "a", "b")];
    let drawn = draw_all(&columns(&[3, 1, 0]), &rows, &PIPE);
    assert_eq!(drawn.lines().count(), 3);
    assert!(drawn.lines().nth(1).unwrap().ends_with("x+    1"));
    for color in [false, true] {
        let drawn = draw_all(&columns(&[0, 3]), &rows, &Style { color, ..PIPE });
        let line = drawn.lines().nth(1).unwrap();
        assert_eq!(line.len(), 5 + 200_000 - 1);
        assert!(line.ends_with("y y"));
    }
}

#[test]
fn characters_that_stand_for_colours_take_no_column_and_are_never_shown() {
    for marker in COLORS.iter().map(|(color, _)| *color).chain([RESET, REST]) {
        assert_eq!(width(marker), 0);
        assert!(marker.chars().all(crate::output::escape::unprintable));
    }
}

/// Prints the time that 20,000 rows take, and comfy-table's share: `benches/tables`.
#[test]
#[ignore = "a measurement: benches/tables"]
fn time_of_20000_rows() {
    let rows: Vec<_> = (0..20_000).map(|pid| row(pid, "www-data", &"word ".repeat(12))).collect();
    let parents: Vec<_> = (0..rows.len()).map(|i| (i > 0).then_some(i / 3)).collect();
    let places = tree::order(&parents, |a, b| a.cmp(&b));
    let prefixes = tree::prefixes(&places, true);
    let line = |(place, prefix): (&tree::TreePosition, String)| TableLine {
        row: &rows[place.index],
        prefix,
        mark: Mark::None,
    };
    let lines: Vec<_> = places.iter().zip(prefixes).map(line).collect();
    let selection = columns(&[0, 1, 2, 0, 1, 2, 0, 1, 2, 3]);
    let milliseconds = |work: &dyn Fn() -> usize| {
        let times = (0..7).map(|_| {
            let started = std::time::Instant::now();
            assert_eq!(work(), 20_001);
            started.elapsed().as_secs_f64() * 1000.0
        });
        times.fold(f64::MAX, f64::min)
    };
    for (name, style) in [("80 columns", at_width(80)), ("a pipe", PIPE)] {
        let whole = milliseconds(&|| draw(&selection, &lines, &style, &header()).lines().count());
        let (mut layouts, parts) = measure_all(&selection, &lines, &style, &header());
        if let Some(width) = style.width {
            fit(&mut layouts, width, false);
        }
        let lay_out = |part| lay_out(&layouts, part, &style).lines().count();
        let comfy = milliseconds(&|| parts.iter().map(lay_out).sum());
        println!("{name}: {whole:.0} ms, {comfy:.0} ms of it comfy-table's");
    }
}

#[test]
fn a_table_in_several_parts_is_one_table() {
    let rows: Vec<_> = (0..3 * PART as i64).map(|pid| row(pid, "root", &pid.to_string())).collect();
    let drawn = draw_all(&columns(&[0, 1, 3]), &rows, &PIPE);
    let expected: String = (0..rows.len()).map(|pid| format!("{pid:>3}  root  {pid}\n")).collect();
    assert_eq!(drawn, format!("PID  USER  COMMAND\n{expected}"));
}

proptest! {
    #[test]
    fn no_line_is_too_wide_and_none_is_lost(
        names in proptest::collection::vec(any::<(i16, String, Vec<u8>)>(), 0..6),
        order in Just(vec![0usize, 1, 2, 3]).prop_shuffle(),
        take in 1usize..5,
        cols in 0usize..60,
        exact: bool,
        depth in 0usize..9,
    ) {
        let rows: Vec<_> = names
            .into_iter()
            .map(|(pid, user, command)| TestRow { pid: pid.into(), user: user.into(), command })
            .collect();
        let line = |row| TableLine { row, prefix: "│  ".repeat(depth), mark: Mark::None };
        let lines: Vec<_> = rows.iter().map(line).collect();
        let selection = Selection { exact, ..columns(&order[..take]) };
        for columns in [None, Some(cols)] {
            let style = Style { width: columns, ..at_width(0) };
            let drawn = draw(&selection, &lines, &style, &header());
            prop_assert_eq!(drawn.matches('\n').count(), rows.len() + 1);
            for line in drawn.lines() {
                prop_assert!(width(line) <= columns.unwrap_or(usize::MAX));
                prop_assert!(!line.ends_with(' '));
            }
            let colored = draw(&selection, &lines, &Style { color: true, ..style }, &header());
            let codes = ["\x1b[1m", "\x1b[31m", "\x1b[0m"];
            let bare = codes.iter().fold(colored, |text, code| text.replace(code, ""));
            prop_assert_eq!(bare, drawn);
        }
    }
}
