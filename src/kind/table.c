/* table.c: the kinds that plm knows, as data. A line here is all that a new kind needs: import reads its
 * fields by these names, augmentation reads its modes, and training and asking word their prompts by its
 * instruction. The lamp kinds carry the wording of the LaMP benchmark to the letter, so that numbers can be
 * compared. */
#include "kind/inside.h"

static const char *const stars[] = {"1", "2", "3", "4", "5"};
static const char *const references[] = {"[1]", "[2]"};
static const char *const tags[] = {
    "sci-fi",
    "based on a book",
    "comedy",
    "action",
    "twist ending",
    "dystopia",
    "dark comedy",
    "classic",
    "psychology",
    "fantasy",
    "romance",
    "thought-provoking",
    "social commentary",
    "violence",
    "true story",
};

static const char *const categories[] = {
    "travel",
    "education",
    "parents",
    "style & beauty",
    "entertainment",
    "food & drink",
    "science & technology",
    "business",
    "sports",
    "healthy living",
    "women",
    "politics",
    "crime",
    "culture & arts",
    "religion",
};

static const char *const sides[] = {
    "quality",       "price",           "how it is used", "what was expected of it",
    "who it is for", "what went wrong", "a comparison"};
#define ASPECTS(list) .aspects = list, .n_aspects = sizeof(list) / sizeof *(list)
#define LABELS(list) .labels = list, .n_labels = sizeof(list) / sizeof *(list)

const plm_kind kind_table[] = {
    {.name = "note",
     .task = "the title of a note",
     .instruction = "Write the title of this note. Answer with the title only.",
     .input_field = "text",
     .output_field = "title",
     .modes = PLM_MODE_REWRITE | PLM_MODE_NEW,
     .max_answer_tokens = 48},
    {.name = "commit",
     .task = "the subject line of a commit, from its body and the files it changes",
     .instruction = "Write the subject line of this commit. Answer with the subject line only.",
     .input_field = "body",
     .output_field = "subject",
     .modes = PLM_MODE_REWRITE | PLM_MODE_NEW,
     .max_answer_tokens = 48},
    {.name = "mail",
     .task = "the subject of a mail",
     .instruction = "Write the subject of this mail. Answer with the subject only.",
     .input_field = "mail",
     .output_field = "subject",
     .modes = PLM_MODE_REWRITE | PLM_MODE_NEW,
     .max_answer_tokens = 48},
    {.name = "review",
     .task = "the rating of a review, from 1 to 5",
     .instruction = "Rate this review from 1 (worst) to 5 (best). Answer with the number only.",
     .input_field = "review",
     .output_field = "rating",
     LABELS(stars),
     ASPECTS(sides),
     .modes = PLM_MODE_REWRITE | PLM_MODE_LABEL,
     .max_answer_tokens = 4},
    {.name = "title",
     .task = "a title for a text or an abstract",
     .instruction = "Write a title for this text. Answer with the title only.",
     .input_field = "abstract",
     .output_field = "title",
     .modes = PLM_MODE_REWRITE | PLM_MODE_NEW,
     .max_answer_tokens = 64},
    {.name = "tweet",
     .task = "a short post, in the person's own style",
     .instruction = "Say this in your own style. Answer with the text only.",
     .input_field = "plain",
     .output_field = "tweet",
     .modes = PLM_MODE_REVERSE,
     .max_answer_tokens = 96},
    {.name = "chat",
     .task = "the answer to a message",
     .instruction = "{input}",
     .input_field = "prompt",
     .output_field = "answer",
     .modes = PLM_MODE_REWRITE | PLM_MODE_NEW,
     .max_answer_tokens = 256},
    {.name = "lamp-1",
     .task = "which of two references is related to a paper of this author, [1] or [2]",
     .instruction = "{input}",
     .input_field = "question",
     .output_field = "reference",
     LABELS(references),
     .modes = PLM_MODE_PAIR,
     .pair =
         "For an author who has written the paper with the title \"{title}\", which reference is related? "
         "Just answer with [1] or [2] without explanation. [1]: \"{first}\" [2]: \"{second}\"",
     .hint = "Titles are those of scholarly papers; a related one is a paper that this author would cite.",
     .max_answer_tokens = 4},
    {.name = "lamp-2",
     .task = "the tag of a movie",
     .instruction =
         "Which tag does this movie relate to among the following tags? Just answer with the tag name "
         "without further explanation. tags: [sci-fi, based on a book, comedy, action, twist ending, "
         "dystopia, dark comedy, classic, psychology, fantasy, romance, thought-provoking, social "
         "commentary, violence, true story] description: {input}",
     .input_field = "description",
     .output_field = "tag",
     LABELS(tags),
     .modes = PLM_MODE_REWRITE | PLM_MODE_LABEL,
     .max_answer_tokens = 8},
    {.name = "lamp-2n",
     .task = "the category of a news article",
     .instruction =
         "Which category does this article relate to among the following categories? Just answer with the "
         "category name without further explanation. categories: [travel, education, parents, style & "
         "beauty, entertainment, food & drink, science & technology, business, sports, healthy living, "
         "women, politics, crime, culture & arts, religion] article: {input}",
     .input_field = "text",
     .output_field = "category",
     LABELS(categories),
     .modes = PLM_MODE_REWRITE | PLM_MODE_LABEL,
     .max_answer_tokens = 8},
    {.name = "lamp-3",
     .task = "the score of a review, from 1 to 5",
     .instruction =
         "What is the score of the following review on a scale of 1 to 5? just answer with 1, 2, 3, 4, or "
         "5 without further explanation. review: {input}",
     .input_field = "text",
     .output_field = "score",
     LABELS(stars),
     ASPECTS(sides),
     .modes = PLM_MODE_REWRITE | PLM_MODE_LABEL,
     .max_answer_tokens = 4},
    {.name = "lamp-4",
     .task = "a headline for an article",
     .instruction = "Generate a headline for the following article: {input}",
     .input_field = "text",
     .output_field = "title",
     .modes = PLM_MODE_REWRITE | PLM_MODE_NEW,
     .max_answer_tokens = 48},
    {.name = "lamp-5",
     .task = "a title for the abstract of a paper",
     .instruction = "Generate a title for the following abstract of a paper: {input}",
     .input_field = "abstract",
     .output_field = "title",
     .modes = PLM_MODE_REWRITE | PLM_MODE_NEW,
     .max_answer_tokens = 64},
    {.name = "lamp-7",
     .task = "a tweet, in the person's own style",
     .instruction = "Paraphrase the following tweet without any explanation before or after it: {input}",
     .input_field = "tweet",
     .output_field = "text",
     .modes = PLM_MODE_REVERSE,
     .max_answer_tokens = 96},
};
const size_t n_kind_table = sizeof kind_table / sizeof *kind_table;
