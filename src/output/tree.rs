//! The order of a process tree and the lines drawn before it. Parents come from a live system and
//! may contradict each other; no row is dropped for it, and nothing here recurses or loops for ever.

use std::cmp::Ordering;

/// Levels whose lines are drawn; what lies deeper stands behind a mark at this depth.
const LEVELS: usize = 64;

/// Where a row stands in the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreePosition {
    /// Its index in the list that was ordered.
    pub index: usize,
    /// How many parents it has; 0 for a root.
    pub depth: usize,
    /// Whether it is the last of its siblings.
    pub last: bool,
}

/// Brings rows into the order of a tree: each under its parent, siblings as `compare` says (which
/// must be a total order; it is given indices), equals as they came. `parents` holds the index of
/// each row's parent. One that is missing, out of range or the row itself makes a root; of rows
/// that are each other's ancestors (pids used again while we read) the first by `compare` does.
pub fn order(
    parents: &[Option<usize>],
    mut compare: impl FnMut(usize, usize) -> Ordering,
) -> Vec<TreePosition> {
    let mut sorted: Vec<usize> = (0..parents.len()).collect();
    sorted.sort_by(|a, b| compare(*a, *b));

    let mut children: Vec<Vec<usize>> = vec![Vec::new(); parents.len()];
    let mut roots = Vec::new();
    let parents = without_cycles(parents, &sorted);
    for index in sorted {
        match parents[index] {
            Some(parent) => children[parent].push(index),
            None => roots.push(index),
        }
    }

    let mut places = Vec::with_capacity(parents.len());
    let mut waiting = Vec::new();
    push(&mut waiting, &roots, 0);
    while let Some(place) = waiting.pop() {
        places.push(place);
        push(&mut waiting, &children[place.index], place.depth + 1);
    }
    places
}

/// Puts siblings on the stack so that the first comes off first.
fn push(waiting: &mut Vec<TreePosition>, siblings: &[usize], depth: usize) {
    let places = siblings.iter().enumerate().map(|(at, index)| TreePosition {
        index: *index,
        depth,
        last: at + 1 == siblings.len(),
    });
    waiting.extend(places.rev());
}

/// The parents with each cycle opened above the member that comes first in `sorted`. Every row is
/// walked over once: a walk up ends at a root, at a row of an earlier walk, or at one of its own,
/// and only the last is a cycle.
fn without_cycles(parents: &[Option<usize>], sorted: &[usize]) -> Vec<Option<usize>> {
    let mut parents: Vec<Option<usize>> =
        parents.iter().map(|parent| parent.filter(|p| *p < parents.len())).collect();
    let mut rank = vec![0; parents.len()];
    for (at, index) in sorted.iter().enumerate() {
        rank[*index] = at;
    }
    let mut walk_of: Vec<Option<usize>> = vec![None; parents.len()];
    for start in 0..parents.len() {
        let mut at = start;
        while walk_of[at].is_none() {
            walk_of[at] = Some(start);
            at = parents[at].unwrap_or(at);
        }
        if walk_of[at] != Some(start) || parents[at].is_none() {
            continue;
        }
        let mut first = at;
        let mut member = parents[at];
        while let Some(next) = member.filter(|next| *next != at) {
            if rank[next] < rank[first] {
                first = next;
            }
            member = parents[next];
        }
        parents[first] = None;
    }
    parents
}

/// What to draw before each row of an ordered tree. Roots have nothing before them.
///
/// ```text
/// init
/// ├─ sshd
/// │  └─ bash
/// └─ cron
/// ```
///
/// Beyond 64 levels the lines would fill any terminal (and a prefix as long as the tree is deep
/// costs the square of it), so the row stands at that level behind `…`, in ASCII `+`.
pub fn prefixes(places: &[TreePosition], unicode: bool) -> Vec<String> {
    let (tee, corner, trunk, deeper) = if unicode {
        ("├─ ", "└─ ", "│  ", "…  ")
    } else {
        ("|- ", "`- ", "|  ", "+  ")
    };
    let mut drawn = Vec::with_capacity(places.len());
    // For each level that has been entered: was the row we are under the last there?
    let mut ended: Vec<bool> = Vec::with_capacity(LEVELS);
    for place in places {
        let mut prefix = String::new();
        if let Some(above) = place.depth.checked_sub(1) {
            ended.truncate(above);
            for last in &ended {
                prefix.push_str(if *last { "   " } else { trunk });
            }
            if above >= LEVELS {
                prefix.push_str(deeper);
            }
            prefix.push_str(if place.last { corner } else { tee });
            if above < LEVELS {
                ended.push(place.last);
            }
        } else {
            ended.clear();
        }
        drawn.push(prefix);
    }
    drawn
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn draw(parents: &[Option<usize>], unicode: bool) -> Vec<String> {
        let places = order(parents, |a, b| a.cmp(&b));
        let prefixes = prefixes(&places, unicode);
        places
            .iter()
            .zip(prefixes)
            .map(|(place, prefix)| format!("{prefix}{}", place.index))
            .collect()
    }

    #[test]
    fn a_tree_is_drawn_under_its_roots() {
        let parents = [None, Some(0), Some(1), Some(0), Some(3), None, Some(5)];
        assert_eq!(draw(&parents, true), ["0", "├─ 1", "│  └─ 2", "└─ 3", "   └─ 4", "5", "└─ 6"]);
        assert_eq!(draw(&parents, false), ["0", "|- 1", "|  `- 2", "`- 3", "   `- 4", "5", "`- 6"]);
        assert!(draw(&[], true).is_empty());
    }

    #[test]
    fn siblings_stand_as_compared() {
        let parents = [None, Some(0), Some(0), None];
        let order = order(&parents, |a, b| b.cmp(&a));
        assert_eq!(order.iter().map(|p| p.index).collect::<Vec<_>>(), [3, 0, 2, 1]);
        assert!(order[0].depth == 0 && !order[0].last && order[1].last);
    }

    #[test]
    fn contradicting_parents_lose_no_row() {
        assert_eq!(draw(&[Some(0)], true), ["0"]);
        assert_eq!(draw(&[Some(7), Some(usize::MAX)], true), ["0", "1"]);
        assert_eq!(draw(&[Some(1), Some(2), Some(1)], true), ["1", "├─ 0", "└─ 2"]);
        assert_eq!(draw(&[Some(1), Some(0), Some(3), Some(2)], true), ["0", "└─ 1", "2", "└─ 3"]);
    }

    #[test]
    fn a_tree_of_20000_levels_is_drawn_within_64() {
        let parents: Vec<_> = (0..20_000usize).map(|i| i.checked_sub(1)).collect();
        let lines = draw(&parents, true);
        assert_eq!(lines.len(), 20_000);
        assert!(lines[64].ends_with("   └─ 64"));
        assert!(lines[65].ends_with("   …  └─ 65"));
        assert_eq!(lines[19_999].chars().count(), 3 * 66 + 5);
    }

    #[test]
    fn depths_that_make_no_tree_are_drawn_all_the_same() {
        let place = |depth| TreePosition { index: 0, depth, last: false };
        let drawn = prefixes(&[place(3), place(usize::MAX), place(0), place(2)], true);
        assert_eq!(drawn, ["├─ ", "│  …  ├─ ", "", "├─ "]);
    }

    proptest! {
        #[test]
        fn any_parents_give_every_row_once(
            parents in proptest::collection::vec(proptest::option::of(0usize..40), 0..40)
        ) {
            let places = order(&parents, |a, b| (a % 7).cmp(&(b % 7)));
            let mut seen: Vec<_> = places.iter().map(|p| p.index).collect();
            seen.sort();
            prop_assert_eq!(seen, (0..parents.len()).collect::<Vec<_>>());
            for pair in places.windows(2) {
                prop_assert!(pair[1].depth <= pair[0].depth + 1);
            }
            prop_assert_eq!(prefixes(&places, true).len(), places.len());
        }
    }
}
