#!/usr/bin/env python3
"""Made-up people in the files of the LaMP benchmark, each with habits that can be learned.

usage: personas.py [--users N] [--queries N] [--profile N] [--task-users N] [--seed S] [--tasks LIST]
                   [--plant-leak] [--shuffle-labels] OUT

Writes OUT/TASK/{dev,task}_{questions,outputs}.json for LaMP_1, LaMP_2N, LaMP_2, LaMP_3, LaMP_4, LaMP_5 and
LaMP_7, and OUT/personas.json, which says what each person's habits are and what was planted. The same
options give the same bytes. The people of the task files are others than those of the dev files, with the
same sort of habits.

A person keeps to the own habits nine times out of ten, and neighbours differ in each habit: what is learned
from one person helps that person and misleads about another. Ids, dates and scores are sometimes numbers and
sometimes strings, as in published files.

--plant-leak puts the first query of every second person, its first word changed, with its answer into the
profile, in place of an older item; nothing else in a profile is that close to one of the person's queries.
--shuffle-labels deals the answers in the profiles out again among all people of a file: then there is nothing
to learn, while the queries' answers stay true.
"""

import argparse
import datetime
import functools
import json
import pathlib
import random
import re

from personas_words import (
    ABSTRACTS,
    FIELDS,
    FILMS,
    GOODS,
    HEROES,
    METHODS,
    NEWS,
    NEWS_TAIL,
    RESULTS,
    REVIEW_TAIL,
    TWEETS,
    VERDICTS,
    WHEN,
)

TASKS = ["LaMP_1", "LaMP_2N", "LaMP_2", "LaMP_3", "LaMP_4", "LaMP_5", "LaMP_7"]
PROMPTS = {
    "LaMP_1": (
        'For an author who has written the paper with the title "{}", which reference is related? Just '
        'answer with [1] or [2] without explanation. [1]: "{}" [2]: "{}"'
    ),
    "LaMP_2N": (
        "Which category does this article relate to among the following categories? Just answer with the "
        "category name without further explanation. categories: [" + ", ".join(NEWS) + "] article: {}"
    ),
    "LaMP_2": (
        "Which tag does this movie relate to among the following tags? Just answer with the tag name without "
        "further explanation. tags: [" + ", ".join(FILMS) + "] description: {}"
    ),
    "LaMP_3": (
        "What is the score of the following review on a scale of 1 to 5? just answer with 1, 2, 3, 4, or 5 "
        "without further explanation. review: {}"
    ),
    "LaMP_4": "Generate a headline for the following article: {}",
    "LaMP_5": "Generate a title for the following abstract of a paper: {}",
    "LaMP_7": "Paraphrase the following tweet without any explanation before or after it: {}",
}
# Fields of a profile item: what is given, and what the person made of it.
GIVEN = {
    "LaMP_1": "abstract",
    "LaMP_2N": "text",
    "LaMP_2": "description",
    "LaMP_3": "text",
    "LaMP_4": "text",
    "LaMP_5": "abstract",
    "LaMP_7": None,
}
MADE = {
    "LaMP_1": "citation",
    "LaMP_2N": "category",
    "LaMP_2": "tag",
    "LaMP_3": "score",
    "LaMP_4": "title",
    "LaMP_5": "title",
    "LaMP_7": "text",
}


def capital(text):
    return text[:1].upper() + text[1:]


def bare(text):
    """Without a leading article."""
    return text.split(" ", 1)[1] if text.split(" ", 1)[0] in ("a", "an", "the") else text


def draw(r, parts):
    return [r.choice(x) for x in parts]


def habit_of(index, *tables):
    """One row of each table; a person and the next one differ in each."""
    return [table[(index + index // len(table)) % len(table)] for table in tables]


class Person:
    """One author of texts of one task. item() is (given, made, more fields); question() is (input, answer,
    the item that would give it away)."""

    def __init__(self, index, r):
        self.index, self.r = index, r

    def keeps(self):
        return self.r.random() < 0.9

    def question(self, task):
        given, made, _ = self.item()
        return PROMPTS[task].format(given), made, {GIVEN[task]: given, MADE[task]: made}


class Citing(Person):
    """Works with one method in two fields, and cites those who work with it too."""

    def __init__(self, index, r):
        super().__init__(index, r)
        fields = list(FIELDS)
        self.method = METHODS[index % len(METHODS)]
        self.fields = [fields[index % len(fields)], fields[(index + 3) % len(fields)]]
        self.habits = {"method": self.method, "fields": self.fields}

    def cited(self, field, method):
        how = self.r.choice(["{m} for {o}", "{o} by {m}", "fast {m} in {o}", "{o} revisited with {m}"])
        return capital(how.format(m=method, o=self.r.choice(FIELDS[field][0])))

    def item(self):
        field = self.r.choice(self.fields)
        objects, hard, data = draw(self.r, FIELDS[field])
        method = self.method if self.keeps() else self.r.choice(METHODS)
        title = capital(
            self.r.choice(["{m} and {o} when {h}", "{o} through {m} where {h}"]).format(
                m=method, o=objects, h=hard
            )
        )
        text = (
            f"We study {objects} when {hard}. With {method} our approach {self.r.choice(RESULTS)}, as we show"
            f" on {data}."
        )
        return (
            text,
            self.cited(field, self.method if self.keeps() else self.r.choice(METHODS)),
            {"title": title},
        )

    def question(self, task):
        field = self.r.choice(self.fields)
        objects, hard, data = draw(self.r, FIELDS[field])
        title = capital(
            self.r.choice(["{o} on {d} when {h}", "when {h}: {o} on {d}"]).format(o=objects, h=hard, d=data)
        )
        right = self.cited(field, self.method)
        wrong = self.cited(field, self.r.choice([m for m in METHODS if m != self.method]))
        first = self.r.random() < 0.5
        both = (right, wrong) if first else (wrong, right)
        text = f"We study {objects} when {hard} on {data}."
        return (
            PROMPTS[task].format(title, *both),
            "[1]" if first else "[2]",
            {"abstract": text, "title": title, "citation": right},
        )


class Labelling(Person):
    """Names one of the two things that a text is about, by an order of preference of one's own; and mostly
    sees texts about the first few of that order."""

    def __init__(self, index, r, labels):
        super().__init__(index, r)
        self.order = labels[:]
        self.r.shuffle(self.order)
        first = labels[index * 4 % len(labels)]
        self.order.remove(first)
        self.order.insert(0, first)
        self.habits = {"order": self.order}

    def two(self):
        a = self.r.choice(self.order[:1] * 6 + self.order[1:4] * 3 + self.order[4:])
        b = self.r.choice([x for x in self.order if x != a])
        label = min(a, b, key=self.order.index) if self.keeps() else max(a, b, key=self.order.index)
        return self.r.sample([a, b], 2), label


class Sorting(Labelling):
    def __init__(self, index, r):
        super().__init__(index, r, list(NEWS))

    def item(self):
        both, label = self.two()
        text = []
        for topic in both:
            who, does, what = draw(self.r, NEWS[topic])
            text.append(capital(f"{who} {does} {what} {self.r.choice(WHEN)}."))
        title = capital(bare(text[0].lower()).rstrip("."))
        return " ".join(text), label, {"title": title}


class Tagging(Labelling):
    def __init__(self, index, r):
        super().__init__(index, r, list(FILMS))

    def item(self):
        both, label = self.two()
        hero, other = self.r.sample(HEROES, 2)
        plots = [self.r.choice(self.r.choice(FILMS[tag])) for tag in both]
        return f"{capital(hero)} meets {other}. {plots[0]}. {plots[1]}.", label, {}


SCALES = {
    "fair": "12345",
    "harsh": "11234",
    "kind": "23455",
    "all or nothing": "11355",
    "grim": "11123",
    "never extreme": "22344",
}


class Rating(Person):
    """Reads the same words by a scale of one's own, in short or long reviews."""

    def __init__(self, index, r):
        super().__init__(index, r)
        (self.name, self.scale), self.sentences = habit_of(index, list(SCALES.items())[::-1], [4, 1, 2])
        self.habits = {"scale": self.name, "sentences": self.sentences}

    def item(self):
        level = self.r.choice("1234455")
        score = self.scale[int(level) - 1] if self.keeps() else level
        first = f"The {self.r.choice(GOODS)} {self.r.choice(VERDICTS[level][0])}."
        rest = [x + "." for x in self.r.sample(REVIEW_TAIL, self.sentences - 1)]
        return " ".join([first] + rest), score, {}


OPENINGS = {
    "": "{}",
    "why": "why {}",
    "here is how": "here is how {}",
    "news:": "news: {}",
    "just in:": "just in: {}",
}
CASES = {"sentence": capital, "lower": str.lower, "words": str.title, "shouted": str.upper}
ENDINGS = ["!", "", "...", "?", " (again)", " - at last"]


class Headlining(Person):
    def __init__(self, index, r):
        super().__init__(index, r)
        self.opening, self.case, self.ending = habit_of(index, list(OPENINGS), list(CASES), ENDINGS)
        self.habits = {"opening": self.opening, "case": self.case, "ending": self.ending}
        self.topics = r.sample(list(NEWS), 4)

    def item(self):
        who, does, what = draw(self.r, NEWS[self.r.choice(self.topics)])
        text = capital(f"{who} {does} {what} {self.r.choice(WHEN)}. {self.r.choice(NEWS_TAIL)}.")
        opening, case, ending = (
            (self.opening, self.case, self.ending) if self.keeps() else ("", "sentence", "")
        )
        title = CASES[case](OPENINGS[opening].format(f"{bare(who)} {does} {bare(what)}")) + ending
        return text, title, {}


SHAPES = {
    "colon": "{o}: {m} when {h}",
    "towards": "towards {m} for {o}",
    "on": "on {o} by {m}",
    "question": "can {m} help {o}?",
    "study": "{m} for {o}: a study",
    "plain": "{o} with {m}",
}


class Titling(Person):
    def __init__(self, index, r):
        super().__init__(index, r)
        self.shape, self.case = habit_of(index, list(SHAPES), ["lower", "words", "sentence"])
        self.habits = {"shape": self.shape, "case": self.case}
        self.fields = r.sample(list(FIELDS), 2)

    def item(self):
        objects, hard, data = draw(self.r, FIELDS[self.r.choice(self.fields)])
        method = self.r.choice(METHODS)
        parts = {"o": objects, "h": hard, "m": method, "d": data, "r": self.r.choice(RESULTS)}
        text = " ".join(capital(x.format(**parts)) for x in draw(self.r, ABSTRACTS))
        shape, case = (self.shape, self.case) if self.keeps() else ("plain", "sentence")
        return text, CASES[case](SHAPES[shape].format(o=objects, m=method, h=hard)), {}


SHORT = [
    ("going to", "gonna"),
    ("want to", "wanna"),
    ("because", "cuz"),
    ("you are", "ur"),
    ("you", "u"),
    ("people", "ppl"),
    ("and", "&"),
    ("I am", "im"),
    ("We are", "were"),
    ("I have", "ive"),
]
CRIES = ["", "ugh ", "honestly, ", "omg ", "ok so "]
TAILS = [" lol", "!!!", " #mood", "", " ...", " <3"]


class Tweeting(Person):
    def __init__(self, index, r):
        super().__init__(index, r)
        self.cry, self.case, self.tail = habit_of(index, CRIES, ["lower", "sentence", "shouted"], TAILS)
        self.short = index % 2 == 0
        self.habits = {"cry": self.cry, "case": self.case, "tail": self.tail, "short": self.short}

    def styled(self, text):
        if not self.keeps():
            return text
        if self.short:
            for long, short in SHORT:
                text = text.replace(long + " ", short + " ")
        return CASES[self.case](self.cry + text.rstrip(".")) + self.tail

    def item(self):
        start = self.r.choice(self.r.choice(TWEETS["starts"]))
        doing, thing, place, tail = (
            self.r.choice(TWEETS[x][0]) for x in ("doing", "things", "places", "tails")
        )
        plain = f"{start} {doing} {thing} {place} {tail}."
        return plain, self.styled(plain), {}

    def question(self, task):
        plain, made, _ = self.item()
        return PROMPTS[task].format(plain), made, {"text": made}


PEOPLE = {
    "LaMP_1": Citing,
    "LaMP_2N": Sorting,
    "LaMP_2": Tagging,
    "LaMP_3": Rating,
    "LaMP_4": Headlining,
    "LaMP_5": Titling,
    "LaMP_7": Tweeting,
}


def profile_item(task, person):
    given, made, more = person.item()
    item = dict(more)
    if GIVEN[task]:
        item[GIVEN[task]] = given
    item[MADE[task]] = made
    return item


def distinct(make, seen):
    """A new one, as long as the grammar has any."""
    one = make()
    for _ in range(200):
        if str(one) not in seen:
            break
        one = make()
    seen.add(str(one))
    return one


@functools.lru_cache(10000)
def runs(text, n):
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}


def near(a, b):
    """So alike that one would give the other away."""
    both, either = runs(a, 3) & runs(b, 3), runs(a, 3) | runs(b, 3)
    return a == b or bool(runs(a, 8) & runs(b, 8)) or len(both) >= 0.5 * len(either) > 0


def asked_anew(task, person, items, before):
    """A question that nothing in the profile gives away, as long as the grammar has any."""
    field = GIVEN[task] or MADE[task]
    for _ in range(500):
        one = person.question(task)
        if one[0] not in before and not any(near(one[2][field], x[field]) for x in items):
            break
    return one


def leaked(item, made):
    """The item with its first word changed, not in what the person made."""
    field = next((f for f in ("text", "abstract", "description") if f in item and f != made), made)
    words = item[field].split()
    words[0] = "indeed"
    return dict(item, **{field: " ".join(words)})


def loosely(item, n):
    """Some people's numbers are numbers, others' are strings."""
    if n % 3 == 1:
        item["id"] = int(item["id"])
    if n % 2 == 1 and "score" in item:
        item["score"] = int(item["score"])
    if n % 3 == 2 and "date" in item:
        item["date"] = int(item["date"][:4])
    return item


def one_person(task, index, options, queries, profile, first_id):
    """(records, golds, what the manifest says), the profile oldest first and all of it before the queries."""
    r = random.Random(f"{options.seed}/{task}/{index}")
    person = PEOPLE[task](index, r)
    seen = set()
    items = [distinct(lambda: profile_item(task, person), seen) for _ in range(profile)]
    asked = []
    for _ in range(queries):
        asked.append(asked_anew(task, person, items, [x[0] for x in asked]))
    about = {"user": index, "user_id": str(first_id), "habits": person.habits}
    day = datetime.date(2012, 1, 1) + datetime.timedelta(days=r.randrange(300))
    if options.plant_leak and index % 2 == 0 and items:
        at = r.randrange(len(items))
        items[at] = dict(items[at], **leaked(asked[0][2], MADE[task]))
        about["leak"] = {"query": str(first_id + 1), "item": str(first_id * 1000 + at)}
    for i, item in enumerate(items):
        day += datetime.timedelta(days=r.randrange(3, 40))
        items[i] = {"id": str(first_id * 1000 + i), **item, "date": day.isoformat()}
    records, golds = [], []
    for n, (text, made, _) in enumerate(asked):
        name = str(first_id + 1 + n)
        records.append({"id": name, "input": text, "profile": items, "user_id": about["user_id"]})
        golds.append({"id": name, "output": made})
    return records, golds, about


def shuffled(task, people, r):
    """Deals what people made, or whole items where that is all there is, out again among all of a file."""
    moved = ["title", "abstract", "citation"] if task == "LaMP_1" else [MADE[task]]
    items = [item for records, _, _ in people for item in (records[0]["profile"] if records else [])]
    hands = [[item[f] for f in moved] for item in items]
    r.shuffle(hands)
    for item, hand in zip(items, hands):
        item.update(zip(moved, hand))


def write(path, doc):
    path.write_text(json.dumps(doc, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def one_file(task, split, out, options, indices, queries, profile):
    spacing = max(1000, queries + 1)
    people = [one_person(task, i, options, queries, profile, (i + 1) * spacing) for i in indices]
    if options.shuffle_labels:
        shuffled(task, people, random.Random(f"{options.seed}/{task}/{split}/shuffled"))
    for records, _, about in people:
        for item in records[0]["profile"] if records else []:
            loosely(item, about["user"])
        for record in records:
            if about["user"] % 3 == 1:
                record["id"], record["user_id"] = int(record["id"]), int(record["user_id"])
    write(out / task / f"{split}_questions.json", [x for records, _, _ in people for x in records])
    write(
        out / task / f"{split}_outputs.json",
        {"task": task, "golds": [x for _, golds, _ in people for x in golds]},
    )
    return [about for _, _, about in people]


def main(words=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--users", type=int, default=6)
    parser.add_argument("--queries", type=int, default=5, help="of each person")
    parser.add_argument("--profile", type=int, default=24, help="items of each person")
    parser.add_argument("--task-users", type=int, default=20, help="other people, for the task adapter")
    parser.add_argument("--seed", default="0")
    parser.add_argument("--tasks", default=",".join(TASKS), help="which, by commas")
    parser.add_argument("--plant-leak", action="store_true")
    parser.add_argument("--shuffle-labels", action="store_true")
    parser.add_argument("out", type=pathlib.Path)
    options = parser.parse_args(words)
    manifest = {"seed": options.seed, "people": {}}
    for task in options.tasks.split(","):
        if task not in TASKS:
            parser.error(f"there is no task {task}: " + ", ".join(TASKS))
        (options.out / task).mkdir(parents=True, exist_ok=True)
        others = range(options.users, options.users + options.task_users)
        manifest["people"][task] = one_file(
            task, "dev", options.out, options, range(options.users), options.queries, options.profile
        )
        one_file(task, "task", options.out, options, others, min(3, options.queries), min(4, options.profile))
    write(options.out / "personas.json", manifest)


if __name__ == "__main__":
    main()
