"""The words of the made-up people of personas.py: phrases of ours, about nobody."""


def items(text):
    return [x.strip() for x in text.replace("\n", " ").split(";")]


def rows(text):
    """Lines of "key: a; b; c | d; e" as lists of lists by key; an indented line goes on with the last one."""
    out = {}
    for line in text.strip().replace("\n  ", " ").splitlines():
        key, rest = line.split(":", 1)
        out[key.strip()] = [items(part) for part in rest.split("|")]
    return out


# LaMP_2N and LaMP_4: category: subjects | what they do | to what
NEWS = rows("""
travel: a night train; the island ferry; a mountain hostel; the coast road | reopens; doubles; closes early
  | its summer season; the northern line; the old harbour stop; weekend tickets
education: the village school; a night college; the reading club; a primary class | drops; rewrites; tests |
  the morning exam; its homework rule; the history course; a spelling contest
parents: a young family; the nursery; a tired father; the playground group | gives up; shares; plans | the
  bedtime story; screens at dinner; a quiet weekend; the first school bag
style & beauty: the wool coat; a small salon; the autumn collection; a linen shop | brings back; softens;
  replaces | wide collars; the short fringe; plain buttons; the winter palette
entertainment: the puppet show; a late comedy; the film festival; a radio play | extends; cancels; films
  again | its final scene; the open-air night; the second season; a lost episode
food & drink: the corner bakery; a soup kitchen; the tea house; an apple press | serves; runs out of;
  invents | a rye loaf; the spicy broth; cold lemonade; the morning bun
science & technology: a weather balloon; the lab robot; a pocket radio; the tide sensor | measures; repairs;
  loses | the upper wind; its own battery; a weak signal; the night data
business: the paper mill; a bicycle firm; the market hall; a toy maker | sells; merges; insures | its second
  plant; the spare parts; the storage shed; a delivery fleet
sports: the rowing team; a goalkeeper; the chess club; the relay squad | wins; postpones; misses | the
  regional final; a penalty round; the spring league; an easy match
healthy living: a walking group; the clinic; the swimming course; a sleep study | recommends; counts; tries
  | ten slow breaths; an early night; daily stairs; the cold shower
women: a women's choir; the midwives; the women's league; a pilot school for women | founds; demands;
  honours | an equal share; the first captain; a weekly meeting; the new charter
politics: the town council; a small party; the mayor's office; the upper house | delays; votes on; defends |
  the bridge budget; a parking law; the housing plan; the water tax
crime: a night thief; the harbour police; a forger; the district court | steals; finds; returns | the bronze
  bell; a stack of stamps; two old bicycles; the missing ledger
culture & arts: the city museum; a glass painter; the brass band; a poetry house | shows; restores; lends |
  the blue window; a forgotten march; the clay figures; its oldest poster
religion: the hill chapel; a choir of monks; the parish; a temple school | blesses; rebuilds; opens | the
  east tower; a garden for guests; the harvest feast; its silent hour
""")
WHEN = items("""
this week; after a long debate; for once; despite the rain; before the holidays; without much notice; in
front of a small crowd; to general surprise; at the second try; by a narrow vote; with help from abroad; on
a Monday
""")
NEWS_TAIL = items("""
Neighbours say they saw it coming; Nobody knows the cost yet; A decision is expected soon; Plans had been
ready since spring; Some call it overdue; Others would rather wait; Letters of protest arrived; The weather
did not help; Photographs were taken; Two volunteers stayed until midnight; Tickets sold out at once; It was
a first
""")

# LaMP_2: tag: what happens in such a film
FILMS = rows("""
sci-fi: The last ship leaves a dying star | A machine learns to dream on a distant moon | Signals from the
  deep sky answer back
based on a book: The tale follows the pages of a beloved novel | It keeps the chapters of the old bestseller
  | A famous diary is brought to the screen
comedy: Every plan ends in a bucket of paint | Two rivals must share one tiny kitchen | A wedding goes wrong
  in eleven ways
action: A chase crosses nine rooftops and a canal | The convoy has to get through before dawn | A bridge
  must hold for one more hour
twist ending: Nothing that the witness says turns out to be true | The final letter changes who the culprit
  was | In the last minute the roles are reversed
dystopia: A city counts every word that people speak | Water is handed out by rank behind the wall | Dreams
  need a permit in the new state
dark comedy: An undertaker competes for customers with a smile | The will is read while the deceased listens
  | A polite poisoner runs a guest house
classic: Shot in grey light with a slow piano | The beloved tale of an older cinema returns | Its silent
  first reel is shown again
psychology: A doctor doubts her own memory | The twin hears thoughts that may be his own | A man keeps count
  of his fears in a notebook
fantasy: A river spirit bargains for a name | The youngest witch guards a sleeping dragon | Maps redraw
  themselves under the moon
romance: Two letters cross and two strangers meet | They have one summer before the boat leaves | An old
  dance brings them together again
thought-provoking: It asks what a promise is worth | The judge must weigh one life against many | A quiet
  question follows every scene
social commentary: The factory and the villa share a fence | A street fights for its only school | Rents
  rise and so do the neighbours
violence: The feud leaves no house untouched | Blood is paid with blood in the valley | The arena opens its
  gates at night
true story: It retells a rescue that happened one winter | The court files of the real case are shown | A
  strike that once stopped a port is told again
""")
HEROES = items("""
a lighthouse keeper; a retired boxer; a young clerk; the widow of a baker; an honest smuggler; a school
inspector; a deaf pianist; a stubborn mechanic; an old sailor; a tram driver; a travelling barber; the new
nurse
""")

# LaMP_3: what was bought, and what is said of it at each level, from 1 to 5
GOODS = items("""
desk lamp; kettle; rain jacket; garden hose; alarm clock; backpack; bread knife; pair of headphones; puzzle;
bicycle pump; wool blanket; travel mug; tripod; door bell; hammock; paint brush; toaster; mouse pad; water
filter; folding chair
""")
VERDICTS = rows("""
1: broke on the first day; was useless from the start; had to go straight in the bin; arrived in pieces
2: disappointed me within a week; feels cheap and wobbles; needs far too much patience; leaks a little every
  time
3: does its job and no more; is neither good nor bad; works on most days; is about what I paid for
4: works well apart from a small flaw; is solid and pleasant to use; does nearly all I hoped; was a sensible
  buy
5: is simply perfect; exceeded every hope I had; is the best one I have ever owned; makes me smile each
  morning
""")
REVIEW_TAIL = items("""
I use it most days; The box was rather big; It came on a Tuesday; My neighbour has one too; The picture
shows the colour well; I had compared four of them; The manual is tiny; It stands by the window; One is
enough for us; The old one lasted longer; My sister wants to borrow it; It was a gift; We took it on
holiday; The smell is gone by now; Shipping took nine days; I had read other opinions; The cat likes the
box; Nothing was missing; It hangs in the hall; Cleaning takes a minute
""")

# LaMP_1 and LaMP_5: field: objects | difficulties | data; and methods
FIELDS = rows("""
language: parsing; short summaries; spelling repair; word order | labels are rare; sentences are noisy | a
  corpus of letters; transcribed radio
vision: shadow removal; crowd counting; depth maps; texture recognition | light changes quickly; objects
  overlap | street images; underwater frames
robotics: grasping; legged walking; map building; cable routing | contacts are uncertain; sensors drift | a
  bench of two arms; a field test
graphs: link prediction; community search; node ranking; cut problems | edges arrive late; degrees are
  skewed | a citation graph; road networks
biology: protein folding; cell tracking; gene ordering; plant growth | samples are few; measurements decay |
  yeast cultures; leaf scans
audio: pitch tracking; echo removal; speaker turns; rhythm detection | rooms reverberate; voices overlap |
  studio takes; kitchen recordings
networks: packet routing; load balancing; cache placement; clock synchronisation | links fail; demand is
  bursty | a campus trace; simulated towers
economics: auction design; demand forecasts; wage dispersion; price setting | agents hide their types;
  shocks are common | ledger data; survey panels
""")
METHODS = items("""
Bayesian sampling; sparse coding; contrastive training; integer programming; kernel methods; tree ensembles;
message passing; spectral filters; genetic search; game-theoretic pricing
""")
RESULTS = items("""
needs half the memory; is robust to outliers; runs in linear time; matches expert judgement; improves the
worst case; keeps its accuracy with few samples
""")
# The sentences of an abstract, each in several wordings.
ABSTRACTS = [
    [
        "We consider {o}, where {h}.",
        "{o} remains open since {h}.",
        "This is about {o} although {h}.",
        "How far does {o} get if {h}?",
        "In practice {h}, and {o} suffers.",
    ],
    [
        "With {m} it {r}.",
        "Our design rests on {m} and {r}.",
        "An approach by {m} {r}.",
        "We turn to {m}, which {r}.",
        "A variant of {m} {r}.",
    ],
    ["Tests on {d} agree.", "We evaluate on {d}.", "{d} served as a test bed.", "Results are for {d}."],
]

# LaMP_7: things to say in a neutral way
TWEETS = rows("""
starts: I am; We are; My brother is; The whole office is; My aunt is | I have been; We have been; My brother
  has been
doing: waiting for; talking about; looking for; laughing at; dreaming about; complaining about; thinking
  about; running after; cooking for; singing to
things: the last bus; a cup of coffee; the new neighbours; my lost keys; a very long meeting; the cat next
  door; that strange film; a slice of cake; the holiday photos; a broken umbrella; the football match; my
  old guitar
places: in the rain; at the station; since six in the morning; with all the windows open; on the kitchen
  floor; before the shop opens; under a tiny roof; while the kettle boils; for no good reason; in the wrong
  shoes
tails: and you know it; because you are late again; and I want to go home; because people are too slow; it
  is going to take ages; but I love it; and you are all invited; but tomorrow is another day; because nobody
  else will; and we want to stay; are you going to join; and people are staring; because it was free; who is
  going to help; and that is fine; but do not tell anybody
""")
