"""Shapes of files to import: JSON lines, CSV and LaMP questions for one target, Markdown for another."""

HEADLINE = '"input":"Generate a headline for the following article: x"'


def jsonl_import():
    question = (
        '{"id":"1","user_id":"ana",%s,"profile":[{"title":"T","text":"b","date":"2012-06-01"}]}' % HEADLINE
    )
    seeds = {
        "note": '{"text":"The river floods.","title":"River","date":"2024-03-01"}\n',
        "review": '{"review":"nice","rating":5}\n{"review":"bad","rating":"6"}\n',
        "pairs": '{"prompt":"q","answer":"a"}\n{"prompt":"q","completion":"a"}\n{"input":"i","output":"o"}\n',
        "messages": '{"messages":[{"role":"system","content":"s"},{"role":"user","content":"u"},'
        '{"role":"assistant","content":"a"}]}\n',
        "messages-odd": '{"messages":[{"role":"assistant","content":"a"},7]}\n{"messages":{}}\n'
        '{"messages":[null,null]}\n',
        "export": '{"table":"store","version":1}\n'
        '{"table":"records","kind":"note","input":"a","output":"b","time":5,'
        '"source":"x","local_only":1}\n{"table":"consents","text":"t"}\n',
        "times": "".join(
            '{"text":"a","title":"b","date":"%s"}\n' % t
            for t in (
                "2000-02-29T12:00:00.5+01:30",
                "2000-02-29 1",
                "20000229",
                "99999999999999",
                "-1",
                "2012-1",
                "2012-06-01T1:",
            )
        ),
        "csv": 'text,title,date\n"a ""b""\r\nc",T,2012\nx,y\n"never',
        "csv-semicolons": "text;title\na;b\n",
        "csv-header-only": "text,title",
        "csv-many-fields": "text,title\n" + "," * 600 + "\na,b\n",
        "csv-returns": 'text,title\r"a"\r,b\r\n"a"b,c\n',
        "lamp": "[" + question + "]",
        "lamp-two": "[" + question + "," + question.replace("ana", "bo") + "]",
        "lamp-1": '[{"id":"1","user_id":"ana","input":"For an author who has written the paper","profile":'
        '[{"title":"P","citation":"C"}]},'
        '{"id":"2","user_id":"b","input":"x","profile":[{"title":"Q","citation":"D"}]}]',
        "lamp-strings": '[{"id":"]","input":"\\"","profile":[]},"]",[[]]]',
        "lamp-commas": "[,,{}{},]",
        "lamp-open": "[[[[",
    }
    return {name: text.encode() for name, text in seeds.items()}


def markdown():
    seeds = {
        "front": '---\ntitle: "T"\ndate: 2026-01-02\nauthor: ana\n---\n# T\nbody\n',
        "front-open": "---\ntitle: T\n",
        "front-only": "---\ntitle: T\n---",
        "front-quotes": "---\ntitle: '\n---\nx\n",
        "sections": "before\n# One #\na\n# Two ##\nb\n",
        "fence": "# One\n```\n# code\n```\n~~~\n# Two\n",
        "crlf": "---\r\ntitle: T\r\n---\r\nbody\r\n",
        "hashes": "#\n# \n# #\n#x\n#\tTab\ntext\n",
        "bom": "\ufeff# T\nb\n",
        "none": "text only\n",
    }
    return {name: text.encode() for name, text in seeds.items()}


TARGETS = {"jsonl_import": jsonl_import, "markdown": markdown}
