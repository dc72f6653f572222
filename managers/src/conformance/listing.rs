//! Listings: whole, page by page, and without a value.

use std::collections::BTreeSet;

use super::{World, expect_no_value};
use crate::ListQuery;

pub(super) async fn run<W: World, F: AsyncFn() -> W>(make: &F) {
    what_is_listed_can_be_referred_to(&make().await).await;
    labels_are_looked_for_or_not_told(&make().await).await;
    a_text_is_looked_for_where_that_is_said(&make().await).await;
}

/// Who searches below a folder finds what has the text in its name, and nothing else; no value, and no
/// effect.
async fn a_text_is_looked_for_where_that_is_said(world: &impl World) {
    let (org, manager) = (world.org(), world.manager());
    if !manager.searches() {
        return;
    }
    let before = (world.values_given(), world.minted());
    let path = world.pure().path();
    let (folder, name) = path.rsplit_once('/').expect("a folder");
    let search = async |text: &str| {
        let mut query = ListQuery {
            prefix: format!("{folder}/"),
            search: Some(text.to_owned()),
            ..ListQuery::default()
        };
        let mut found = BTreeSet::new();
        loop {
            let page = manager.list(&org, &query).await.expect("a page");
            expect_no_value(&format!("{page:?}"));
            found.extend(page.entries.into_iter().map(|entry| entry.path));
            query.page = page.next;
            if query.page.is_none() {
                return found;
            }
        }
    };
    assert!(search(name).await.contains(&path), "{path}");
    assert_eq!(search("nothing-is-called-so").await, BTreeSet::new());
    assert_eq!((world.values_given(), world.minted()), before);
}

/// Whoever looks for labels must not get what has none of them.
async fn labels_are_looked_for_or_not_told(world: &impl World) {
    let (org, manager) = (world.org(), world.manager());
    let path = world.pure().path();
    let folder = path.rfind('/').map_or("", |at| &path[..=at]);
    let mut query = ListQuery {
        prefix: folder.to_owned(),
        ..ListQuery::default()
    };
    let page = manager.list(&org, &query).await.expect("a page");
    if manager.lists_labels() {
        query.labels = vec!["nothing-has-this".into()];
        let page = manager.list(&org, &query).await.expect("a page");
        assert!(page.entries.is_empty(), "{page:?}");
    } else {
        let told = page.entries.iter().find(|entry| !entry.labels.is_empty());
        assert!(told.is_none(), "{told:?}");
    }
}

/// Walks the folders down to the pure secret: its path is in the listing of its folder, once.
async fn what_is_listed_can_be_referred_to(world: &impl World) {
    let (org, manager) = (world.org(), world.manager());
    let before = (world.values_given(), world.minted());
    let path = world.pure().path();
    let folder = path.rfind('/').map_or("", |at| &path[..=at]);
    let mut query = ListQuery {
        prefix: folder.to_owned(),
        ..ListQuery::default()
    };
    let (mut seen, mut pages) = (BTreeSet::new(), BTreeSet::new());
    loop {
        let page = manager.list(&org, &query).await.expect("a page");
        expect_no_value(&format!("{page:?}"));
        for entry in page.entries {
            assert!(seen.insert(entry.path.clone()), "{} twice", entry.path);
        }
        query.page = page.next;
        match &query.page {
            Some(next) => assert!(pages.insert(next.clone()), "page {next} again"),
            None => break,
        }
    }
    assert!(seen.contains(&path), "{path} is not among {seen:?}");
    assert_eq!((world.values_given(), world.minted()), before);
}
