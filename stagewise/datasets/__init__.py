"""What a pipeline trains on: ordered items, each with a key, an array and labels.

`base` says what a data set is; the short names below are those a pipeline file may use. Nothing heavy is
imported here: a class is looked up, and torch loaded, only when a pipeline names it.
"""

SHORT_NAMES = {
    "librispeech": "stagewise.datasets.librispeech:LibriSpeech",
    "audio-folder": "stagewise.datasets.audio_folder:AudioFolder",
    "synthetic-speech": "stagewise.datasets.synthetic_speech:SyntheticSpeech",
    "stl10": "stagewise.datasets.stl10:STL10",
    "image-folder": "stagewise.datasets.image_folder:ImageFolder",
    "digits": "stagewise.datasets.digits:Digits",
}
