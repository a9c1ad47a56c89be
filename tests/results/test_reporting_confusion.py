"""What a report says of classes that are taken for each other."""

from report_examples import Page

from stagewise.results.figures import FEW, _shown


def test_few_classes_are_a_matrix_of_counts():
    text = _shown("speaker on two of run", ["ann", "<bob>", "cy"], {(0, 0): 3, (0, 1): 1, (1, 1): 1_234})
    words = Page(text).text.split()
    assert words[-15:] == [
        "ann", "<bob>", "cy", "ann", "3", "1", "0", "<bob>", "0", "1,234", "0", "cy", "0", "0", "0",
    ]  # fmt: skip
    assert text.count('scope="row"') == 3
    assert text.count("--share: 0.750") == 1  # three of four of ann
    assert text.count("--share: 0.000") == 6


def test_of_many_classes_the_most_frequent_mistakes():
    names = [f"class {number}" for number in range(FEW + 40)]
    counts = {(number, number): 5 for number in range(FEW + 40)}
    text = _shown("phones on two of run", names, counts)
    assert "no test example is taken for one of another class" in text
    counts |= {(number, number + 1): number + 1 for number in range(FEW + 30)}
    page = Page(_shown("phones on two of run", names, counts)).text
    assert "the most frequent mistakes, 20 of 42 kinds" in page
    assert " ".join(page.split()).count("class 41 class 42 42 89.4") == 1  # 42 of 47
    assert "class 22 class 23" in " ".join(page.split())
    assert "class 21 class 22" not in " ".join(page.split())


def test_thousands_of_kinds_of_mistakes_are_counted_in_one_pass():
    counts = {(of, said): 1 + (of != said) for of in range(200) for said in range(200)}
    page = " ".join(Page(_shown("speaker on two of run", [f"s{number}" for number in range(200)], counts)).text.split())
    assert "20 of 39,800 kinds" in page
    assert "s0 s1 2 0.5" in page  # 2 of 399
